"""The shipped instruments on speakers that they have never heard, and on sound and video of other formats."""

import json
from pathlib import Path

import pytest
import torch
import torchaudio
from safetensors import safe_open
from safetensors.torch import save_file

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import Expected
from idlora_pl.metrics.functional import cosine_similarity, transcript_error_rate
from idlora_pl.metrics.lips import LipSync
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.metrics.sounds import EnvironmentAccuracy
from idlora_pl.metrics.speaker import SpeakerSimilarity
from idlora_pl.metrics.words import TranscriptErrorRate
from idlora_pl.nano.codecs import ASSETS
from idlora_pl.nano.embedders import Instruments, load_instruments
from idlora_pl.nano.render import RenderedClips, render
from idlora_pl.nano.world import ENVIRONMENTS, SAMPLE_RATE_HZ, script, speaker

N_SPEAKERS = 8
SCRIPTS = [script(70_000_000 + i) for i in range(2 * N_SPEAKERS)]
"""Clips 2 i and 2 i + 1 are of speaker i."""


@pytest.fixture(scope="module")
def instruments() -> Instruments:
    return load_instruments()


@pytest.fixture(scope="module")
def clips() -> RenderedClips:
    return render([speaker(70_000_000 + i // 2) for i in range(2 * N_SPEAKERS)], SCRIPTS)


def test_words_are_recognised(instruments: Instruments, clips: RenderedClips) -> None:
    words = instruments.transcriber.transcribe(clips.waveform, SAMPLE_RATE_HZ)
    errors = sum(
        4 * transcript_error_rate(heard, " ".join(one.words)) for heard, one in zip(words, SCRIPTS, strict=True)
    )
    assert errors <= 2  # of 64 words; the card says less than 1 %


def test_places_are_recognised(instruments: Instruments, clips: RenderedClips) -> None:
    heard = instruments.environment.classify(clips.waveform, SAMPLE_RATE_HZ)
    assert heard == [ENVIRONMENTS[index] for index in clips.environments.tolist()]


def test_two_speakers_score_below_one_speaker(instruments: Instruments, clips: RenderedClips) -> None:
    vectors = instruments.speaker.embed(clips.waveform, SAMPLE_RATE_HZ)
    same = cosine_similarity(vectors[0::2], vectors[1::2])
    different = cosine_similarity(vectors[0::2], vectors[1::2].roll(1, 0))
    assert same.min() > 0.7
    assert same.mean() - different.mean() > 0.6


def test_a_clip_is_as_similar_to_itself_as_can_be(instruments: Instruments, clips: RenderedClips) -> None:
    own = Clip(clips.frames[0], clips.waveform[:1], 25.0, SAMPLE_RATE_HZ)
    expected = Expected(own.waveform, SAMPLE_RATE_HZ, " ".join(SCRIPTS[0].words), SCRIPTS[0].environment)
    values: dict[str, float] = {}
    for metric in (
        SpeakerSimilarity(instruments.speaker),
        LipSync(instruments.lip_sync),
        TranscriptErrorRate(instruments.transcriber),
        EnvironmentAccuracy(instruments.environment),
    ):
        values |= metric.score_clip(own, expected).values
    assert values["speaker_similarity"] == pytest.approx(1.0)
    assert (values["wer"], values["environment_accuracy"], values["lip_offset"]) == (0.0, 1.0, 0.0)
    assert values["lip_sync"] > 0.7


@pytest.mark.parametrize("shift", [-5, -2, -1, 0, 1, 3])
def test_sound_moved_by_k_frames_moves_the_offset_by_k(
    instruments: Instruments, clips: RenderedClips, shift: int
) -> None:
    metric = LipSync(instruments.lip_sync)
    for i in range(4):
        sound = clips.waveform[i, (5 + shift) * 640 : (28 + shift) * 640]
        score = metric.score(sound, clips.frames[i, 5:28], sample_rate_hz=SAMPLE_RATE_HZ, frame_rate_fps=25.0)
        assert score.values["lip_offset"] == shift


def test_lips_of_another_clip_do_not_agree(instruments: Instruments, clips: RenderedClips) -> None:
    own = [instruments.lip_sync.embed(clips.waveform[i], 16000, clips.frames[i], 25.0) for i in range(6)]
    matching = [cosine_similarity(sound, mouth).mean().item() for sound, mouth in own]
    wrong = [cosine_similarity(own[i][0], own[i - 1][1]).mean().item() for i in range(6)]
    assert min(matching) > 0.7
    assert max(wrong) < 0.5


@pytest.mark.parametrize("rate", [24000, 44100, 48000])
def test_the_sample_rate_does_not_matter(instruments: Instruments, clips: RenderedClips, rate: int) -> None:
    waveform = clips.waveform[:4]
    other = torchaudio.functional.resample(waveform, SAMPLE_RATE_HZ, rate)
    vectors = instruments.speaker.embed(waveform, SAMPLE_RATE_HZ), instruments.speaker.embed(other, rate)
    assert cosine_similarity(*vectors).min() > 0.98
    words = instruments.transcriber.transcribe(waveform, SAMPLE_RATE_HZ)
    assert instruments.transcriber.transcribe(other, rate) == words


@pytest.mark.parametrize("rate", [8000, 11025])
def test_a_low_sample_rate_still_gives_numbers(instruments: Instruments, clips: RenderedClips, rate: int) -> None:
    low = torchaudio.functional.resample(clips.waveform[:2], SAMPLE_RATE_HZ, rate)
    assert instruments.speaker.embed(low, rate).isfinite().all()


def test_the_level_does_not_matter(instruments: Instruments, clips: RenderedClips) -> None:
    loud, quiet = (instruments.speaker.embed(gain * clips.waveform[:4], 16000) for gain in (1.0, 0.05))
    torch.testing.assert_close(loud, quiet, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("fps", "repeats"), [(50.0, 2), (75.0, 3)])
def test_repeated_frames_at_a_higher_rate_change_nothing(
    instruments: Instruments, clips: RenderedClips, fps: float, repeats: int
) -> None:
    frames = clips.frames[0].repeat_interleave(repeats, dim=0)
    expected = instruments.lip_sync.embed(clips.waveform[0], 16000, clips.frames[0], 25.0)
    torch.testing.assert_close(instruments.lip_sync.embed(clips.waveform[0], 16000, frames, fps), expected)


@pytest.mark.parametrize("fps", [16.0, 24.0, 30.0])
def test_other_frame_rates_keep_lips_and_sound_together(
    instruments: Instruments, clips: RenderedClips, fps: float
) -> None:
    nearest = (torch.arange(int(1.32 * fps)) * 25 / fps).round().long()
    frames = torch.nn.functional.interpolate(clips.frames[0][nearest].float(), (96, 96)).to(torch.uint8)
    score = LipSync(instruments.lip_sync).score(clips.waveform[0], frames, sample_rate_hz=16000, frame_rate_fps=fps)
    assert abs(score.values["lip_offset"]) <= 1
    assert score.values["lip_sync"] > 0.3


def test_a_batch_gives_what_its_clips_give(instruments: Instruments, clips: RenderedClips) -> None:
    together = instruments.speaker.embed(clips.waveform[:3], 16000)
    alone = torch.cat([instruments.speaker.embed(clips.waveform[i : i + 1], 16000) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_too_short_clips_say_so(instruments: Instruments, clips: RenderedClips) -> None:
    with pytest.raises(Unscorable, match="too_short"):
        instruments.speaker.embed(clips.waveform[:1, :1000], 16000)
    for n_frames, n_samples in ((4, 21120), (33, 2400)):
        with pytest.raises(Unscorable, match="too_short"):
            instruments.lip_sync.embed(clips.waveform[0, :n_samples], 16000, clips.frames[0, :n_frames], 25.0)


A, E, SILENCE = 0, 1, 6


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([(SILENCE, 9), (A, 12), (SILENCE, 4), (E, 10)], "aa eh"),
        ([(A, 12), (E, 9)], "aa eh"),
        ([(A, 8), (E, 2), (A, 8)], "aa"),
        ([(A, 8), (SILENCE, 6), (A, 8)], "aa aa"),
        ([(A, 4), (SILENCE, 20)], ""),
    ],
)
def test_words_are_runs_that_are_long_enough(instruments: Instruments, runs: list[tuple[int, int]], words: str) -> None:
    assert instruments.transcriber.words([vowel for vowel, length in runs for _ in range(length)]) == words


def test_the_shipped_file_is_small_and_says_how_it_was_made() -> None:
    path = ASSETS / "instruments.safetensors"
    assert path.stat().st_size < 1_500_000
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert "python -m idlora_pl.nano.instruments" in metadata["command"]
    card = (ASSETS / "INSTRUMENTS.md").read_text()
    assert metadata["command"] in card
    for numbers in json.loads(metadata["results"]).values():
        assert f"{numbers['speaker_eer']:.4f}" in card
        assert numbers["speaker_eer"] <= 0.02
        assert numbers["phoneme_error_rate"] <= 0.02
        assert numbers["environment_accuracy"] >= 0.98
        assert numbers["lip_offset_0"] >= 0.95


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a.safetensors does not exist; make it with `python -m idlora_pl.nano"):
        load_instruments(tmp_path / "a.safetensors")
    save_file({"speaker.stem.0.weight": torch.zeros(2)}, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match=r"b.safetensors: \d+ tensors do not fit the networks"):
        load_instruments(tmp_path / "b.safetensors")
