"""Face similarity: which frames are looked at, the mean of raw vectors, and a reason for everything missing."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import Expected
from idlora_pl.metrics.face import FaceSimilarity, spread_frames
from idlora_pl.metrics.scorable import Unscorable


class Corner:
    """The face of a frame is the colour of its first pixel; black frames show none, white ones are no number."""

    def embed(self, frames: torch.Tensor) -> torch.Tensor:
        colours = frames[:, :, 0, 0].float()
        shown = colours[colours.sum(1) > 0]
        if not len(shown):
            raise Unscorable("no_face")
        return torch.where(shown == 255, float("nan"), shown)


def frames_of(*colours: tuple[int, int, int]) -> torch.Tensor:
    return torch.tensor(colours, dtype=torch.uint8)[:, :, None, None].expand(-1, 3, 4, 4).contiguous()


def clip_of(*colours: tuple[int, int, int]) -> Clip:
    return Clip(frames_of(*colours), torch.zeros(1, 100), 25.0, 16000)


@given(st.integers(1, 500))
def test_frames_are_spread_as_numpy_spreads_them(n_frames):
    assert spread_frames(n_frames).tolist() == np.linspace(0, n_frames - 1, 5, dtype=int).tolist()


def test_the_face_of_a_clip_is_the_mean_of_raw_vectors():
    clip = frames_of(
        (30, 0, 0), (9, 9, 9), (0, 40, 0), (9, 9, 9), (0, 0, 0), (9, 9, 9), (30, 0, 0), (9, 9, 9), (0, 0, 50)
    )
    target = frames_of((7, 0, 0))
    score = FaceSimilarity(Corner()).score(clip, target)
    mean = np.array([15, 10, 12.5])
    assert score.values["face_sim"] == pytest.approx(mean[0] / np.linalg.norm(mean), abs=1e-6)
    assert score.notes == {"face_frames": "4/5", "target_face_frames": "5/5"}


def test_a_clip_is_its_own_target():
    clip = clip_of((3, 5, 8), (13, 21, 34))
    metric = FaceSimilarity(Corner(), name="face_sim_corner")
    assert metric.score_clip(clip, Expected(target=clip)).values == pytest.approx({"face_sim_corner": 1.0})
    assert metric.score_clip(clip, Expected()).reason == "no_target"


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (frames_of((1, 1, 1))[:0], "no_frames"),
        (frames_of((1, 1, 1))[:, :, :0], "no_frames"),
        (frames_of((0, 0, 0)), "no_face"),
        (frames_of((255, 1, 1)), "embedding_not_finite"),
    ],
)
def test_what_cannot_be_scored_says_why_and_whose_fault_it_is(frames, reason):
    metric, face = FaceSimilarity(Corner()), frames_of((1, 2, 3))
    assert metric.score(frames, face).reason == reason
    assert metric.score(face, frames).reason == f"target_{reason}"


def test_batches_order_and_pickling_do_not_change_the_mean():
    colours = [[(9, 0, 0), (9, 0, 0)], [(0, 0, 0), (0, 0, 0)], [(0, 5, 0), (5, 0, 0)]]
    clips = [clip_of(*shown) for shown in colours]
    target = Expected(target=clip_of((9, 0, 0)))
    whole, split = FaceSimilarity(Corner()), FaceSimilarity(Corner())
    whole.update(clips, [target] * 3)
    for index in (2, 0, 1):
        split.update(clips[index], target)
    found, again = whole.compute(), pickle.loads(pickle.dumps(split)).compute()
    assert found == again
    assert (found["face_sim/n_scored"], found["face_sim/n_total"]) == (2, 3)
