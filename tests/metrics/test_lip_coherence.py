"""Which frames count for lip coherence, and what the mean does with them."""

from dataclasses import replace

import pytest
import torch

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import Expected
from idlora_pl.metrics.face_track import FaceTrack
from idlora_pl.metrics.lips import LipCoherence, heard_frames
from idlora_pl.metrics.scorable import Unscorable


class MiddleOfFrame:
    """The face is in the middle of the frame, far from its edges; or there is none in black frames."""

    def track(self, frames: torch.Tensor, frame_rate_fps: float) -> FaceTrack:
        if not frames.any():
            raise Unscorable("no_face")
        box = torch.tensor([6.0, 6.0, 9.0, 9.0])
        return FaceTrack(box.expand(len(frames), 4), torch.zeros(len(frames), 5, 2), {"faces": "1"})


class Brightness:
    """Odds that rise with the brightness of the crop."""

    def log_odds(self, waveform: torch.Tensor, sample_rate_hz: int, crops: torch.Tensor) -> torch.Tensor:
        return crops.float().mean((1, 2, 3)) / 10


def clip_of(levels: list[float], brightness: list[int]) -> Clip:
    """Frames of even brightness, each with 0.04 s of a tone of its level."""
    tone = torch.sin(0.8 * torch.arange(640))
    waveform = torch.cat([level * tone for level in levels])[None]
    frames = torch.tensor(brightness, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 16, 16)
    return Clip(frames.contiguous(), waveform, 25.0, 16_000)


def test_frames_30_db_below_the_loud_ones_are_not_heard() -> None:
    # the loudest two may be clicks, so the level is that of the third
    clip = clip_of([3.0, 2.0, 1.0, 0.1, 0.033, 0.03, 0.0, 0.5], [0] * 8)
    assert heard_frames(clip.waveform[0], 16_000, 8).tolist() == [True, True, True, True, True, False, False, True]


def test_frames_without_sound_are_not_heard_and_a_constant_is_no_sound() -> None:
    waveform = torch.cat([torch.sin(0.8 * torch.arange(3200)), torch.zeros(3200)]) + 0.3
    assert heard_frames(waveform, 16_000, 12).tolist() == [True] * 5 + [False] * 7


@pytest.mark.parametrize("n_frames", [19, 50, 125])
@pytest.mark.parametrize("at", [0.0, 0.41, 0.6])
def test_a_click_does_not_mute_a_clip(n_frames: int, at: float) -> None:
    voice = 0.01 * torch.sin(torch.arange(640 * n_frames) * 0.3)
    voice[640 * (n_frames // 2) :] *= 1e-3  # a pause, 60 dB below
    expected = [place < n_frames // 2 for place in range(n_frames)]
    assert heard_frames(voice, 16_000, n_frames).tolist() == expected
    clicked = voice.clone()
    start = 640 * round(at * n_frames) - 20  # on the boundary of two frames
    clicked[max(0, start) : start + 60] = 1.0  # 40 dB above the voice
    found = heard_frames(clicked, 16_000, n_frames)
    is_click = [abs(640 * place - start - 20) <= 640 for place in range(n_frames)]
    assert [one for one, click in zip(found.tolist(), is_click, strict=True) if not click] == [
        one for one, click in zip(expected, is_click, strict=True) if not click
    ]


def test_a_click_in_silence_is_what_is_heard() -> None:
    voice = torch.zeros(640 * 20)
    voice[640:1280] = torch.sin(torch.arange(640) * 0.3)
    assert heard_frames(voice, 16_000, 20).sum() <= 3


def test_the_mean_is_over_heard_frames() -> None:
    clip = clip_of([0.5, 0.5, 0.0, 0.0, 0.5, 0.5], [100, 110, 10, 20, 120, 130])
    score = LipCoherence(Brightness(), MiddleOfFrame(), min_frames=6).score_clip(clip, Expected())
    assert score.values == {"lip_coherence_lrasd": pytest.approx(11.5)}
    assert score.curves["lip_coherence_lrasd"].values == (10.0, 11.0, 1.0, 2.0, 12.0, 13.0)
    assert score.notes == {"faces": "1", "frames_heard": "0.67"}


@pytest.mark.parametrize(("n_frames", "there"), [(1, False), (5, False), (18, False), (19, True), (25, True)])
def test_a_clip_below_what_the_network_sees_around_a_frame_is_too_short(n_frames: int, there: bool) -> None:
    metric = LipCoherence(Brightness(), MiddleOfFrame())
    long, short = clip_of([0.5] * 25, [100] * 25), clip_of([0.5] * n_frames, [100] * n_frames)
    for clip in (short, replace(long, frames=short.frames), replace(long, waveform=short.waveform)):
        score = metric.score_clip(clip, Expected())
        assert list(score.values) == ["lip_coherence_lrasd"] * there
        assert score.reason == (None if there else "too_short")


@pytest.mark.parametrize(
    ("levels", "brightness", "reason"),
    [([0.0] * 25, [9] * 25, "silent"), ([0.5] * 25, [0] * 25, "no_face"), ([0.5] * 25, [], "no_frames")],
)
def test_a_clip_that_cannot_be_judged_has_a_reason(levels: list[float], brightness: list[int], reason: str) -> None:
    score = LipCoherence(Brightness(), MiddleOfFrame()).score_clip(clip_of(levels, brightness), Expected())
    assert score.reason_of("lip_coherence_lrasd") == reason
