"""The clips that the instruments learn from, and that they learn from them."""

from functools import partial

import pytest
import torch

from idlora_pl.nano.codecs import NanoCodecs
from idlora_pl.nano.embedders import Instruments
from idlora_pl.nano.pretraining.clips import InstrumentClips, Recipe, make_clips
from idlora_pl.nano.pretraining.instruments import fit, lip_sync_loss, phone_loss, speaker_loss


@pytest.fixture(scope="module")
def clips() -> InstrumentClips:
    """Two clips of eight speakers, with video."""
    return make_clips(range(80, 88), Recipe(2, 0, disturbed=True, video=True), NanoCodecs())


def test_clips_come_with_the_truth_in_matching_shapes(clips: InstrumentClips) -> None:
    assert clips.mel.shape == (16, 64, 133)
    assert clips.mouths.shape == (16, 33, 3, 28, 32)
    assert clips.phones.shape == (16, 133)
    assert clips.speakers.tolist() == list(range(8)) * 2
    torch.testing.assert_close(clips.mel.mean((1, 2)), torch.zeros(16), atol=1e-4, rtol=0)


def test_the_same_recipe_gives_the_same_clips(clips: InstrumentClips) -> None:
    again = make_clips(range(80, 88), Recipe(2, 0, disturbed=True, video=True), NanoCodecs())
    torch.testing.assert_close(vars(again), vars(clips))


def test_decoded_clips_differ_but_keep_their_labels(clips: InstrumentClips) -> None:
    decoded = make_clips(range(80, 83), Recipe(1, 1, video=True), NanoCodecs())
    assert decoded.decoded.all()
    assert not clips.decoded.any()
    first = torch.arange(3)
    assert decoded.phones.equal(clips[first].phones)
    change = (decoded.mel - clips[first].mel).square().mean() / clips[first].mel.square().mean()
    assert 0.001 < change < 0.3


def test_a_batch_is_half_decoded(clips: InstrumentClips) -> None:
    mixed = InstrumentClips(**vars(clips) | {"decoded": torch.arange(16) < 3})
    batch = mixed.draw(10, torch.Generator().manual_seed(0))
    assert batch.decoded.tolist() == [True] * 5 + [False] * 5
    assert not clips.draw(10, torch.Generator().manual_seed(0)).decoded.any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "loss", "steps"),
    [("transcriber", phone_loss, 15), ("speaker", speaker_loss, 15), ("lip_sync", lip_sync_loss, 12)],
)
def test_each_network_learns_a_few_clips(clips: InstrumentClips, name: str, loss: partial, steps: int) -> None:
    torch.manual_seed(0)
    network = getattr(Instruments(), name).train()
    before = loss(network, clips, torch.Generator().manual_seed(1)).item()
    fit(network, partial(loss, network, clips), steps=steps, learning_rate=3e-3, seed=0, advance=int)
    after = loss(network.train(), clips, torch.Generator().manual_seed(1)).item()
    assert after < 0.8 * before
