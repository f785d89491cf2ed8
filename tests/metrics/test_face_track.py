"""Crops of the face against a second implementation, and frames of another rate by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.metrics.face_track import FaceTrack, face_crops, frames_at_rate, running_median


def tool_crop(frame: np.ndarray, x: float, y: float, half: float) -> np.ndarray:
    """What joonson/syncnet_python does with one frame (H, W, 3): pad all around with 110, cut, resize bilinearly."""
    margin = int(half * 1.8)
    padded = np.pad(frame, ((margin, margin), (margin, margin), (0, 0)), constant_values=110)
    rows = slice(int(y + margin - half), int(y + margin + half * 1.8))
    columns = slice(int(x + margin - half * 1.4), int(x + margin + half * 1.4))
    cut = padded[rows, columns].astype(np.float64)
    result = np.zeros((224, 224, 3))
    for i, j in np.ndindex(224, 224):
        # the centre of the new pixel on the grid of the old ones, clamped to it
        v = min(max((i + 0.5) * cut.shape[0] / 224 - 0.5, 0), cut.shape[0] - 1)
        h = min(max((j + 0.5) * cut.shape[1] / 224 - 0.5, 0), cut.shape[1] - 1)
        top, left = math.floor(v), math.floor(h)
        bottom, right = min(top + 1, cut.shape[0] - 1), min(left + 1, cut.shape[1] - 1)
        upper = cut[top, left] * (1 - h + left) + cut[top, right] * (h - left)
        lower = cut[bottom, left] * (1 - h + left) + cut[bottom, right] * (h - left)
        result[i, j] = upper * (1 - v + top) + lower * (v - top)
    return result


@pytest.mark.parametrize("box", [(30.0, 20.0, 71.0, 77.0), (-5.0, -9.0, 50.5, 40.0), (60.0, 50.0, 99.0, 98.5)])
def test_a_crop_equals_the_one_of_the_tool(box: tuple[float, ...]) -> None:
    frame = torch.randint(256, (1, 3, 96, 96)).to(torch.uint8)
    crop = face_crops(frame, torch.tensor([box]))[0]
    half = max(box[3] - box[1], box[2] - box[0]) / 2
    expected = tool_crop(frame[0].permute(1, 2, 0).numpy(), (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, half)
    np.testing.assert_allclose(crop.permute(1, 2, 0).numpy(), expected, atol=0.51)


def test_a_box_outside_the_frame_gives_grey() -> None:
    crops = face_crops(torch.zeros(1, 3, 20, 20, dtype=torch.uint8), torch.tensor([[300.0, 300.0, 320.0, 320.0]]))
    assert crops.unique().tolist() == [110]


def test_a_box_without_area_gives_a_crop() -> None:
    assert face_crops(torch.zeros(1, 3, 20, 20, dtype=torch.uint8), torch.zeros(1, 4)).shape == (1, 3, 224, 224)


def test_crops_need_a_box_per_frame() -> None:
    with pytest.raises(ValueError, match=r"a box per frame; got \(2, 4\) for 3 frames"):
        face_crops(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 4))


@given(st.lists(st.floats(0, 1000, width=32), min_size=1, max_size=40))
def test_the_running_median_equals_a_loop(values: list[float]) -> None:
    padded = np.pad(values, 6, mode="constant" if len(values) > 6 else "edge")
    expected = [np.median(padded[i : i + 13]) for i in range(len(values))]
    np.testing.assert_allclose(running_median(torch.tensor(values)).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("rate", "shown"),
    [
        (16.0, [0, 0, 1, 2, 2, 3, 4, 4]),
        (25.0, [0, 1, 2, 3, 4]),
        (12.5, [0, 0, 1, 1]),
        (50.0, [0, 2, 4]),
        (30.0, [0, 1, 2, 4, 5]),
    ],
)
def test_frames_of_another_rate_by_hand(rate: float, shown: list[int]) -> None:
    assert frames_at_rate(round(len(shown) * rate / 25), rate, 25.0).tolist() == shown


@given(n_frames=st.integers(1, 300), rate=st.floats(5, 120))
def test_a_frame_of_the_new_rate_is_on_screen_at_its_middle(n_frames: int, rate: float) -> None:
    shown = frames_at_rate(n_frames, rate, 25.0)
    middles = (torch.arange(len(shown), dtype=torch.float64) + 0.5) / 25
    inside = middles < n_frames / rate
    assert ((shown / rate <= middles + 1e-6) & (middles <= (shown + 1) / rate + 1e-6))[inside].all()
    assert (shown.diff() >= 0).all()
    assert abs(len(shown) / 25 - n_frames / rate) <= 0.5 / 25 + 1e-9 or len(shown) == 1


def test_no_frames_stay_no_frames() -> None:
    assert len(frames_at_rate(0, 30.0, 25.0)) == 0


def test_a_track_of_other_frames_has_their_boxes() -> None:
    track = FaceTrack(torch.arange(12.0).reshape(3, 4), torch.zeros(3, 5, 2), {"faces": "1"})
    assert track.at(torch.tensor([0, 2, 2])).boxes[:, 0].tolist() == [0.0, 8.0, 8.0]
    assert track.at(torch.tensor([1])).notes == {"faces": "1"}
