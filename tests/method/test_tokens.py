"""Tokens: patchify round trips, the clean mask, and shapes that are refused."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.method.tokens import (
    TextContext,
    Tokens,
    patchify_audio,
    patchify_video,
    unpatchify_audio,
    unpatchify_video,
)

small = st.integers(1, 5)


@given(small, small, small, small, small)
def test_video_patchify_is_undone_by_unpatchify(batch, channels, frames, height, width):
    latents = torch.randn(batch, channels, frames, height, width)
    tokens = patchify_video(latents)
    assert tokens.shape == (batch, frames * height * width, channels)
    assert torch.equal(unpatchify_video(tokens, (frames, height, width)), latents)


@given(small, small, small, small)
def test_audio_patchify_is_undone_by_unpatchify(batch, channels, steps, bins):
    latents = torch.randn(batch, channels, steps, bins)
    tokens = patchify_audio(latents)
    assert tokens.shape == (batch, steps, channels * bins)
    assert torch.equal(unpatchify_audio(tokens, channels), latents)


def test_video_tokens_run_over_columns_then_rows_then_frames():
    latents = torch.arange(2 * 3 * 4).reshape(1, 1, 2, 3, 4)
    assert patchify_video(latents)[0, :, 0].tolist() == list(range(24))


def test_audio_token_channels_are_channel_major():
    latents = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    assert patchify_audio(latents)[0, 0].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_clean_tokens_have_timestep_zero_and_noisy_ones_sigma(make_sequence):
    av = make_sequence(batch=2)
    sigma = torch.tensor([0.25, 0.75])
    timesteps = av.audio.timesteps(sigma)
    assert torch.equal(timesteps[:, :3], torch.zeros(2, 3))
    assert torch.equal(timesteps[:, 3:], sigma[:, None].expand(2, 6))


def test_without_reference_leaves_the_target_bit_for_bit(make_sequence):
    with_voice, without = make_sequence(n_reference=3), make_sequence(n_reference=0)
    cut = with_voice.without_reference()
    assert cut.audio.n_reference == 0
    for field in ("latents", "positions", "clean"):
        assert torch.equal(getattr(cut.audio, field), getattr(without.audio, field))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": torch.zeros(1, 2)}, r"latents must be \(B, N, C\); got \(1, 2\)"),
        ({"clean": torch.zeros(1, 3)}, r"clean must be \(1, 3\) bool .* got \(1, 3\) torch.float32"),
        ({"positions": torch.zeros(2, 1, 3, 2)}, r"positions must be \(1, D, 3, 2\).*expand"),
        ({"n_reference": 4}, r"n_reference must lie in 0..3; got 4"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, message):
    tokens = Tokens(torch.zeros(1, 3, 8), torch.zeros(1, 1, 3, 2), torch.zeros(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=message):
        replace(tokens, **change)


def test_parts_of_different_batch_sizes_are_refused(make_sequence):
    av = make_sequence(batch=2)
    with pytest.raises(ValueError, match=r"one batch size; got \[2, 2, 1, 1\]"):
        replace(av, text=TextContext(torch.zeros(1, 5, 24), torch.zeros(1, 5, 24)))


def context(value: float, mask: list[list[bool]] | None = None, batch: int = 3) -> TextContext:
    held = None if mask is None else torch.tensor(mask)
    return TextContext(torch.full((batch, 2, 4), value), torch.full((batch, 2, 5), value), held)


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        (None, None, None),
        ([[True, False]] * 3, None, [[True, True], [True, False], [True, True]]),
        (None, [[False, True]] * 3, [[False, True], [True, True], [False, True]]),
        ([[True, False]] * 3, [[False, True]] * 3, [[False, True], [True, False], [False, True]]),
    ],
)
def test_a_replaced_sample_brings_its_mask_even_if_only_one_text_has_one(own, other, expected):
    found = context(1.0, own).replaced(torch.tensor([True, False, True]), context(2.0, other))
    assert found.video[:, 0, 0].tolist() == found.audio[:, 0, 0].tolist() == [2, 1, 2]
    assert (None if found.mask is None else found.mask.tolist()) == expected


def test_one_text_replaces_any_sample_of_a_batch():
    other = context(2.0, [[False, True]], batch=1)
    found = context(1.0).replaced(torch.tensor([False, True, True]), other)
    assert found.video[:, 1, 3].tolist() == [1, 2, 2]
    assert found.mask.tolist() == [[True, True], [False, True], [False, True]]
