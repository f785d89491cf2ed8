"""One clip in, one row out: every metric has a value or a reason."""

import pickle
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import Expected
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.metrics.speaker import SpeakerSimilarity
from idlora_pl.metrics.suite import ClipScorer
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


def make_scorer() -> ClipScorer:
    levels = Levels()
    return ClipScorer.from_embedders(speaker=levels, lip_sync=Brightness(), transcriber=levels, environment=levels)


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


def test_a_row_has_the_values_worked_out_by_hand() -> None:
    row = make_scorer().score(make_clip(), make_expected())
    assert row["speaker_similarity"] == pytest.approx(0.96)
    assert (row["lip_sync"], row["lse_d"], row["lip_offset"]) == (1.0, 0.0, 0.0)
    assert (row["phoneme_error_rate"], row["environment_accuracy"], row["reasons"]) == (0.0, 1.0, {})


def test_stereo_is_scored_as_its_mean() -> None:
    scorer = make_scorer()
    assert scorer.score(make_clip(channels=2), make_expected()) == scorer.score(make_clip(), make_expected())


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
    row = make_scorer().score(broken(make_clip(), what), make_expected())
    heard = ("speaker_similarity", "phoneme_error_rate", "environment_accuracy")
    assert [row["reasons"].get(name) for name in heard] == [sound] * 3
    assert row["reasons"]["lip_sync"] == row["reasons"]["lse_c"] == picture
    assert all((row[name] is None) == (name in row["reasons"]) for name in row if name != "reasons")


def test_what_is_not_expected_is_not_scored() -> None:
    reasons = make_scorer().score(make_clip(), Expected())["reasons"]
    assert reasons == {
        "speaker_similarity": "no_reference",
        "phoneme_error_rate": "no_expected_words",
        "environment_accuracy": "no_expected_environment",
    }


def test_a_silent_reference_is_the_reference_s_fault() -> None:
    row = make_scorer().score(make_clip(), replace(make_expected(), reference=torch.zeros(1, RATE)))
    assert row["reasons"] == {"speaker_similarity": "reference_silent"}


def test_the_collection_holds_the_means_of_the_rows() -> None:
    scorer = make_scorer()
    rows = [scorer.update(clip, make_expected()) for clip in (make_clip(), broken(make_clip(), "silent"))]
    values = scorer.metrics.compute()
    for name in ("speaker_similarity", "lip_sync", "lse_d", "phoneme_error_rate", "environment_accuracy"):
        assert values[name] == pytest.approx(rows[0][name])
        assert (values[f"{name}/n_scored"], values[f"{name}/n_total"]) == (1, 2)


def test_the_collection_takes_batches_by_keyword() -> None:
    one, batched, clip, expected = make_scorer(), make_scorer(), make_clip(), make_expected()
    one.update(clip, expected)
    batched.metrics.update(
        waveform=clip.waveform,
        reference=expected.reference,
        frames=clip.frames[None],
        words=[expected.words],
        environment=[expected.environment],
        sample_rate_hz=RATE,
        frame_rate_fps=25.0,
    )
    assert batched.metrics.compute() == one.metrics.compute()


def test_update_after_compute_counts() -> None:
    scorer = make_scorer()
    for n_clips in (1, 2):
        scorer.update(make_clip(), make_expected())
        assert scorer.metrics.compute()["lip_sync/n_total"] == n_clips


def test_a_scorer_survives_pickle_with_its_counts() -> None:
    scorer = make_scorer()
    scorer.update(make_clip(), make_expected())
    copy = pickle.loads(pickle.dumps(scorer))
    copy.update(make_clip(), make_expected())
    assert (copy.metrics["lip_sync"].n_total, scorer.metrics["lip_sync"].n_total) == (2, 1)


def test_metrics_of_one_name_are_refused() -> None:
    levels = Levels()
    with pytest.raises(ValueError, match="distinct names"):
        ClipScorer([SpeakerSimilarity(levels), SpeakerSimilarity(levels)])
    with pytest.raises(ValueError, match="at least one; got"):
        ClipScorer([])


def test_two_scales_stand_beside_each_other() -> None:
    levels = Levels()
    scorer = ClipScorer(
        [SpeakerSimilarity(levels), SpeakerSimilarity(levels, name="spk_sim"), TranscriptErrorRate(levels)]
    )
    assert {"speaker_similarity", "spk_sim", "wer"} <= scorer.score(make_clip(), make_expected()).keys()
