"""One clip in, one score out: every metric has a value or a reason, and counts what it has seen."""

import pickle
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import ClipMean, ClipScore, Expected
from idlora_pl.metrics.lips import LipSync
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.metrics.sounds import EnvironmentAccuracy
from idlora_pl.metrics.speaker import SpeakerSimilarity
from idlora_pl.metrics.words import TranscriptErrorRate

RATE = 16000


class Levels:
    """Reads a clip whose samples are constant steps: a voice, words and a place by level, hand-computable."""

    def embed(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
        return waveform[:, :2]

    def transcribe(self, waveform: Tensor, sample_rate_hz: int, *, language: str = "en") -> list[str]:
        return [" ".join(f"w{round(10 * value)}" for value in row[:2].tolist()) for row in waveform]

    def classify(self, waveform: Tensor, sample_rate_hz: int) -> list[str]:
        return ["loud" if row.abs().max() > 0.5 else "quiet" for row in waveform]


class Brightness:
    """Lip-sync by brightness: the sign of each pixel mean against the sign of each 0.04 s of sound."""

    def embed(
        self, waveform: Tensor, sample_rate_hz: int, frames: Tensor, frame_rate_fps: float
    ) -> tuple[Tensor, Tensor]:
        if len(frames) < 3:
            raise Unscorable("too_short")
        picture = torch.where(frames.float().mean((1, 2, 3)) > 127, 0.0, 1.0)
        sound = torch.where(waveform[: len(frames) * 640].unflatten(0, (-1, 640)).mean(1) > 0, 0.0, 1.0)
        return torch.stack([sound, 1 - sound], 1), torch.stack([picture, 1 - picture], 1)


def make_metrics() -> tuple[ClipMean, ...]:
    levels = Levels()
    words = TranscriptErrorRate(levels, name="phoneme_error_rate")
    return SpeakerSimilarity(levels), LipSync(Brightness()), words, EnvironmentAccuracy(levels)


def scored(clip: Clip, expected: Expected) -> ClipScore:
    """Return values and reasons of all metrics together."""
    values, reasons = dict[str, float](), dict[str, str]()
    for metric in make_metrics():
        score = metric.score_clip(clip, expected)
        values |= score.values
        reasons |= {name: score.reason_of(name) for name in metric.names if name not in score.values}
    return ClipScore(values, reasons=reasons)


def make_clip(channels: int = 1) -> Clip:
    """A clip whose brightness follows its sound: signs + - - + + - +, first samples 0.3 and 0.4."""
    signs = torch.tensor([1.0, -1, -1, 1, 1, -1, 1])
    waveform = 0.1 * signs.repeat_interleave(640)
    waveform[:2] = torch.tensor([0.3, 0.4])
    frames = torch.where(signs > 0, 255, 0).to(torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8)
    return Clip(frames, waveform.expand(channels, -1).contiguous(), 25.0, RATE)


def make_expected() -> Expected:
    reference = 0.1 * torch.ones(1, RATE)
    reference[0, :2] = torch.tensor([0.4, 0.3])
    reference[0, 2:] *= torch.arange(RATE - 2) % 2
    return Expected(reference, RATE, "w3 w4", "quiet")


def test_a_clip_has_the_values_worked_out_by_hand() -> None:
    score = scored(make_clip(), make_expected())
    assert score.values["speaker_similarity"] == pytest.approx(0.96)
    assert [score.values[name] for name in ("lip_sync", "lse_d", "lip_offset")] == [1.0, 0.0, 0.0]
    assert [score.values[name] for name in ("phoneme_error_rate", "environment_accuracy")] == [0.0, 1.0]
    assert score.reasons == {}


def test_stereo_is_scored_as_its_mean() -> None:
    assert scored(make_clip(channels=2), make_expected()) == scored(make_clip(), make_expected())


def broken(clip: Clip, what: str) -> Clip:
    waveform, frames = clip.waveform, clip.frames
    changed = {
        "silent": replace(clip, waveform=torch.zeros_like(waveform)),
        "not_finite": replace(clip, waveform=waveform * float("nan")),
        "no_audio": replace(clip, waveform=waveform[:, :0]),
        "no_channels": replace(clip, waveform=waveform[:0]),
        "too_short": replace(clip, waveform=waveform[:, :800], frames=frames[:1]),
        "one_frame": replace(clip, frames=frames[:1]),
        "no_frames": replace(clip, frames=frames[:0]),
    }
    return changed[what]


@pytest.mark.parametrize(
    ("what", "sound", "picture"),
    [
        ("silent", "silent", "silent"),
        ("not_finite", "not_finite", "not_finite"),
        ("no_audio", "no_audio", "no_audio"),
        ("no_channels", "no_audio", "no_audio"),
        ("too_short", "too_short", "too_short"),
        ("one_frame", None, "too_short"),
        ("no_frames", None, "no_frames"),
    ],
)
def test_a_clip_without_score_has_a_reason(what: str, sound: str | None, picture: str) -> None:
    score = scored(broken(make_clip(), what), make_expected())
    heard = ("speaker_similarity", "phoneme_error_rate", "environment_accuracy")
    assert [score.reasons.get(name) for name in heard] == [sound] * 3
    assert score.reasons["lip_sync"] == score.reasons["lse_c"] == picture
    names = {name for metric in make_metrics() for name in metric.names}
    assert sorted([*score.values, *score.reasons]) == sorted(names)


def test_what_is_not_expected_is_not_scored() -> None:
    assert scored(make_clip(), Expected()).reasons == {
        "speaker_similarity": "no_reference",
        "phoneme_error_rate": "no_expected_words",
        "environment_accuracy": "no_expected_environment",
    }


def test_a_silent_reference_is_the_reference_s_fault() -> None:
    score = scored(make_clip(), replace(make_expected(), reference=torch.zeros(1, RATE)))
    assert score.reasons == {"speaker_similarity": "reference_silent"}


def test_a_collection_of_metrics_holds_the_means_of_the_clips() -> None:
    collection = MetricCollection({metric.names[0]: metric for metric in make_metrics()}, compute_groups=False)
    alone = scored(make_clip(), make_expected()).values
    for clip in (make_clip(), broken(make_clip(), "silent")):
        collection.update(clip, make_expected())
    means = collection.compute()
    for name in ("speaker_similarity", "lip_sync", "lse_d", "phoneme_error_rate", "environment_accuracy"):
        assert means[name] == pytest.approx(alone[name])
        assert (means[f"{name}/n_scored"], means[f"{name}/n_total"]) == (1, 2)


def test_a_mean_of_several_clips_is_the_one_worked_out_by_hand() -> None:
    expected = [replace(make_expected(), words=words) for words in ("w3 w4", "w3 w5", "w1 w3 w4 w6", "")]
    metric = TranscriptErrorRate(Levels())
    metric.update([make_clip() for _ in expected], expected)
    found = metric.compute()
    assert found["wer"].item() == pytest.approx((0 + 1 / 2 + 2 / 4) / 3)
    assert (found["wer/n_scored"], found["wer/n_total"]) == (3, 4)


@pytest.mark.parametrize("which", range(4))
def test_update_after_compute_counts_and_a_pickled_metric_counts_on(which: int) -> None:
    metric = make_metrics()[which]
    name = metric.names[0]
    for n_clips in (1, 2):
        metric.update(make_clip(), make_expected())
        assert metric.compute()[f"{name}/n_total"] == n_clips
    copy = pickle.loads(pickle.dumps(metric))
    copy.update(make_clip(), make_expected())
    assert (copy.compute()[f"{name}/n_total"], metric.compute()[f"{name}/n_total"]) == (3, 2)
    assert copy.compute()[name] == metric.compute()[name]


class WithoutReason(ClipMean):
    """A metric with a fault: its clips have neither value nor reason."""

    def score_clip(self, clip: Clip, expected: Expected) -> ClipScore:
        return ClipScore()


def test_a_metric_that_gives_neither_value_nor_reason_is_refused() -> None:
    with pytest.raises(ValueError, match="fault has neither a value nor a reason"):
        WithoutReason(("fault",)).update(make_clip(), Expected())
