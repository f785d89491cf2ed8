"""Offsets of whole clips and of windows: exact shifts, short clips, and clips that cannot be scored."""

from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import Expected
from idlora_pl.metrics.face_track import FaceTrack
from idlora_pl.metrics.functional import (
    offset_distances,
    offset_doubt,
    offset_scores,
    step_distances,
    windowed_offset_scores,
)
from idlora_pl.metrics.lips import LipDistances, tracked_crops
from idlora_pl.nano.corpus import split_seed
from idlora_pl.nano.embedders import load_instruments
from idlora_pl.nano.render import render
from idlora_pl.nano.world import FRAME_RATE_FPS, SAMPLE_RATE_HZ, script, speaker
from idlora_pl.results.row import AT_EDGE
from idlora_pl.scorers.nano import NanoLipSync

PER_FRAME = round(SAMPLE_RATE_HZ / FRAME_RATE_FPS)


@cache
def talker() -> Clip:
    """A rendered clip of the nano world, whose instrument knows lips and sound."""
    made = render([speaker(split_seed("instruments_test", 0))], [script(400)])
    return Clip(made.frames[0], made.waveform[0][None], FRAME_RATE_FPS, SAMPLE_RATE_HZ)


def metric() -> LipDistances:
    return LipDistances(load_instruments().lip_sync, None)


def vectors(n_steps: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(n_steps, 16, generator=torch.Generator().manual_seed(seed)), dim=-1)


class FixedTracker:
    """Says that the face is where it is told."""

    def __init__(self, box: tuple[float, float, float, float]) -> None:
        self.box = box

    def track(self, frames: torch.Tensor, frame_rate_fps: float) -> FaceTrack:
        boxes = torch.tensor(self.box).expand(len(frames), 4)
        return FaceTrack(boxes, torch.zeros(len(frames), 5, 2), {"face_box": "here"})


@pytest.mark.parametrize("shift", [-6, -2, 0, 1, 5])
def test_sound_that_is_shifted_by_k_frames_shifts_the_offset_by_exactly_k(shift: int) -> None:
    clip = talker()
    early = replace(clip, waveform=clip.waveform.roll(-shift * PER_FRAME, 1))
    still = metric().score_clip(clip, Expected()).values["lip_offset"]
    assert metric().score_clip(early, Expected()).values["lip_offset"] == still + shift


def test_the_curve_follows_an_offset_that_changes_in_the_middle() -> None:
    video = vectors(150)
    audio = torch.cat([video[:75], video[72:147]])  # from step 75 on, the sound is three steps late
    windows = windowed_offset_scores(step_distances(audio, video), window=25, hop=5)
    offsets = [window.lip_offset for window in windows]
    assert offsets[:11] == [0.0] * 11
    assert offsets[-11:] == [-3.0] * 11
    assert len(offsets) == 26


@given(n_steps=st.integers(1, 70), seed=st.integers(0, 1000))
def test_windows_of_a_clip_of_any_length_have_finite_scores(n_steps: int, seed: int) -> None:
    found = windowed_offset_scores(step_distances(vectors(n_steps, seed), vectors(n_steps, seed + 1)), window=25, hop=5)
    assert len(found) == max(1, (n_steps - 25) // 5 + 1)
    assert all(-15 <= window.lip_offset <= 15 and 0 <= window.lse_d < 3 and window.lse_c >= 0 for window in found)


def test_a_window_compares_only_sound_that_is_there() -> None:
    # Zero vectors would be close to these short video vectors, and the padding would win.
    video, audio = 0.1 * vectors(40), vectors(40)
    distances = step_distances(audio, video)
    assert offset_scores(distances[:5].mean(0)).lip_offset == 15
    assert abs(windowed_offset_scores(distances, window=5, hop=5)[0].lip_offset) < 15


def test_the_mean_over_steps_is_the_distance_curve() -> None:
    audio, video = vectors(30, 1), vectors(30, 2)
    by_hand = (video[4] - F.pad(audio, (0, 0, 15, 15))[4 + 22]).norm()
    torch.testing.assert_close(step_distances(audio, video)[4, 22], by_hand)
    torch.testing.assert_close(step_distances(audio, video).mean(0), offset_distances(audio, video))


def test_a_row_has_curves_and_says_where_the_face_is() -> None:
    clip = talker()
    height, width = clip.frames.shape[2:]
    tracked = LipDistances(load_instruments().lip_sync, FixedTracker((0.0, 0.0, width, height)))
    score = tracked.score_clip(clip, Expected())
    assert score.notes["face_box"] == "here"
    assert score.curves.keys() == {"lip_offset", "lse_d"}
    assert score.curves["lip_offset"].step_s == 0.2
    assert all(value is not None for value in score.curves["lip_offset"].values)


@pytest.mark.parametrize(
    ("rate", "n_frames", "wanted"), [(16.0, 16, 25), (24.0, 48, 50), (30.0, 30, 25), (60.0, 60, 25)]
)
def test_crops_come_at_25_frames_per_second(rate: float, n_frames: int, wanted: int) -> None:
    frames = torch.randint(256, (n_frames, 3, 40, 40)).to(torch.uint8)
    crops, notes = tracked_crops(FixedTracker((5.0, 5.0, 30.0, 30.0)), frames, rate)
    assert crops.shape == (wanted, 3, 224, 224)
    assert notes == {"face_box": "here"}


def broken() -> dict[str, tuple[Clip, str]]:
    """Clips that cannot be scored, with the reason."""
    clip = talker()
    nan = clip.waveform.clone()
    nan[0, 5] = float("nan")
    return {
        "silence": (replace(clip, waveform=torch.zeros_like(clip.waveform)), "silent"),
        "NaN": (replace(clip, waveform=nan), "not_finite"),
        "no samples": (replace(clip, waveform=clip.waveform[:, :0]), "no_audio"),
        "no channels": (replace(clip, waveform=clip.waveform[:0]), "no_audio"),
        "no frames": (replace(clip, frames=clip.frames[:0]), "no_frames"),
        "no pixels": (replace(clip, frames=clip.frames[..., :0]), "no_frames"),
        "one frame": (replace(clip, frames=clip.frames[:1]), "too_short"),
        "0.6 s": (replace(clip, frames=clip.frames[:15]), "too_short"),
        "0.1 s of sound": (replace(clip, waveform=clip.waveform[:, : SAMPLE_RATE_HZ // 10]), "too_short"),
    }


@pytest.mark.parametrize("kind", broken())
def test_a_clip_that_cannot_be_scored_has_a_reason(kind: str) -> None:
    clip, reason = broken()[kind]
    score = metric().score_clip(clip, Expected())
    assert score.values == {}
    assert {score.reason_of(name) for name in metric().names} == {reason}


@pytest.mark.parametrize("sample_rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_channels_give_the_same_offset(sample_rate_hz: int, channels: int) -> None:
    from torchaudio.functional import resample

    clip = talker()
    sound = resample(clip.waveform, SAMPLE_RATE_HZ, sample_rate_hz).expand(channels, -1)
    other = replace(clip, waveform=sound, sample_rate_hz=sample_rate_hz)
    expected = metric().score_clip(clip, Expected()).values["lip_offset"]
    assert metric().score_clip(other, Expected()).values["lip_offset"] == expected


@pytest.mark.parametrize("arguments", [{"max_offset": 0}, {"max_offset": 15, "min_steps": 15}])
def test_offsets_that_cannot_be_compared_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="min_steps larger; got"):
        LipDistances(load_instruments().lip_sync, None, **arguments)


def test_an_offset_at_the_edge_of_the_search_is_marked_in_clips_and_windows() -> None:
    clip = talker()
    video = vectors(60)
    audio = video.roll(15, 0)
    found = offset_scores(step_distances(audio, video).mean(0))
    assert offset_doubt(found.lip_offset, 15, 60) == [AT_EDGE]
    assert offset_doubt(14.0, 15, 60) == []
    assert offset_doubt(-4.0, 15, 5) == [AT_EDGE]  # a short clip: no offset beyond 4 was looked for
    late = replace(clip, waveform=clip.waveform.roll(16_000 * 20 // 25, -1))
    for one in (clip, late):
        score = metric().score_clip(one, Expected())
        is_edge = abs(score.values["lip_offset"]) == 15
        assert (score.notes.get("lip_offset_doubt") == AT_EDGE) == is_edge
        curve = score.curves["lip_offset"]
        assert curve.marked == tuple(i for i, value in enumerate(curve.values) if abs(value) == 15)
    shallow = NanoLipSync(load_instruments().lip_sync, max_offset=1).score_clip(late, Expected())
    assert shallow.notes == {"nano_lip_offset_doubt": AT_EDGE}
