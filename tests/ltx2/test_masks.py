"""Masks: the additive biases that hide text, from padding or from the reference."""

import pytest
import torch

from idlora_pl.ltx2.attention import HIDDEN, text_bias
from idlora_pl.method.in_context import InContext
from idlora_pl.method.tokens import TextContext


def test_no_bias_is_made_when_everything_is_seen(make_sequence):
    av = make_sequence(recipe=InContext(reference_sees_text=True))
    assert text_bias(av, torch.float32) == (None, None)
    assert text_bias(make_sequence(n_reference=0), torch.float32) == (None, None)


@pytest.mark.parametrize(("hidden_text", "value"), [("uniform", HIDDEN), ("nothing", float("-inf"))])
def test_only_reference_rows_are_hidden_from_the_text(make_sequence, hidden_text, value):
    video, audio = text_bias(make_sequence(recipe=InContext(hidden_text=hidden_text)), torch.float32)
    assert video is None
    assert audio.shape == (1, 9, 5)
    assert torch.equal(audio[:, :3], torch.full((1, 3, 5), value))
    assert torch.equal(audio[:, 3:], torch.zeros(1, 6, 5))


def test_padded_text_is_hidden_from_both_modalities(make_sequence):
    av = make_sequence(n_reference=0)
    mask = torch.tensor([[True, True, False, True, False]])
    padded = type(av)(av.video, av.audio, TextContext(av.text.video, av.text.audio, mask))
    video, audio = text_bias(padded, torch.float32)
    assert (video == HIDDEN).tolist() == (audio == HIDDEN).tolist() == [[(~mask)[0].tolist()]]
