"""Positions: the place of the reference on the time axis, and grids without gaps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.method.positions import AudioGrid, VideoGrid, place_reference

GRID = AudioGrid()
lengths = st.integers(1, 400)


def spacing(positions: torch.Tensor) -> torch.Tensor:
    return positions.flatten(2).diff(dim=-1)


@given(lengths, lengths)
def test_reference_times_are_negative_and_target_times_are_not(n_reference, n_target):
    reference = place_reference(GRID.positions(n_reference), "negative", GRID.token_seconds, 0.0)
    assert (reference < 0).all()
    assert (GRID.positions(n_target) >= 0).all()


@given(lengths)
def test_the_reference_ends_one_token_before_zero(n_reference):
    reference = place_reference(GRID.positions(n_reference), "negative", GRID.token_seconds, 0.0)
    assert reference[..., 1].max().item() == pytest.approx(-0.04, abs=1e-6)


@given(lengths, st.sampled_from(["negative", "shared", "after"]))
def test_placement_keeps_the_inner_spacing(n_reference, placement):
    own = GRID.positions(n_reference)
    placed = place_reference(own, placement, GRID.token_seconds, target_end_s=4.84)
    # float32 seconds below 32: one unit in the last place is 2e-6
    torch.testing.assert_close(spacing(placed), spacing(own), atol=4e-6, rtol=0)


def test_shared_placement_lies_on_top_of_the_target():
    own = GRID.positions(7)
    assert torch.equal(place_reference(own, "shared", 0.04, 0.25), own)


def test_zero_placement_gives_every_token_the_first_interval():
    placed = place_reference(GRID.positions(7), "zero", 0.04, 0.25)
    assert placed.shape == (1, 1, 7, 2)
    assert torch.equal(placed, torch.tensor([0.0, 0.04]).expand(1, 1, 7, 2))


def test_after_placement_starts_one_token_behind_the_target():
    placed = place_reference(GRID.positions(7), "after", 0.04, target_end_s=1.0)
    assert placed[..., 0].min().item() == pytest.approx(1.04)


def test_an_unknown_placement_is_refused():
    with pytest.raises(ValueError, match="must be one of negative, shared, zero, after; got 'negativ'"):
        place_reference(GRID.positions(2), "negativ", 0.04, 0.0)


@given(lengths)
def test_audio_tokens_touch_and_last_forty_milliseconds_after_the_first(n_tokens):
    start, end = GRID.positions(n_tokens)[0, 0].unbind(-1)
    torch.testing.assert_close(start[1:], end[:-1], atol=0, rtol=0)
    assert end[0].item() == pytest.approx(0.01)
    torch.testing.assert_close((end - start)[1:], torch.full((n_tokens - 1,), 0.04), atol=2e-6, rtol=0)


@given(st.integers(1, 20), st.integers(1, 4), st.integers(1, 4), st.sampled_from([4, 8]))
def test_video_frames_touch_and_the_first_latent_covers_one_frame(frames, height, width, stride):
    grid = VideoGrid(25.0, temporal_stride=stride, spatial_stride=32)
    seconds = grid.positions(frames, height, width)[0, 0].unflatten(0, (frames, height, width))
    assert torch.equal(seconds[1:, ..., 0], seconds[:-1, ..., 1])
    covered = (seconds[:, 0, 0] * 25).round().int().tolist()
    assert covered[0] == [0, 1]
    assert covered[-1][1] == stride * (frames - 1) + 1


def test_video_rows_and_columns_are_in_pixels():
    _, rows, columns = VideoGrid().positions(1, 2, 3)[0]
    assert rows.tolist() == [[0, 32]] * 3 + [[32, 64]] * 3
    assert columns.tolist() == [[0, 32], [32, 64], [64, 96]] * 2


@pytest.mark.parametrize(("duration_s", "n_tokens"), [(1.32, 33), (4.84, 121), (5.0, 125)])
def test_a_duration_has_its_number_of_tokens(duration_s, n_tokens):
    assert GRID.n_tokens(duration_s) == n_tokens
