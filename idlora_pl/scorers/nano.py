"""The instruments of the nano world as scorers; they ship with the package."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import ClipMean, ClipScore, Expected
from idlora_pl.metrics.embedders import LipSyncEmbedder
from idlora_pl.metrics.lips import LipSync
from idlora_pl.metrics.sounds import EnvironmentAccuracy
from idlora_pl.metrics.speaker import SpeakerSimilarity
from idlora_pl.metrics.words import ReferenceWordLeak, TranscriptErrorRate
from idlora_pl.nano.codecs import ASSETS
from idlora_pl.nano.corpus import split_seed
from idlora_pl.nano.embedders import load_instruments
from idlora_pl.nano.render import render
from idlora_pl.nano.world import ENVIRONMENTS, FRAME_RATE_FPS, SAMPLE_RATE_HZ, all_texts, script, speaker
from idlora_pl.scorers.card import Anchor, Card, Inputs
from idlora_pl.scorers.scores import SCORES

_NOTE = "Measures clips of the nano world only; how well is in idlora_pl/nano/assets/INSTRUMENTS.md."
_SHIPPED = (ASSETS / "instruments.safetensors",)
_SCRIPT = 400


class NanoLipSync(LipSync):
    """SyncNet's scores under names of their own: the distances of two networks must not share a column.

    Args:
        embedder: The two-stream network.
        kwargs: As in ``LipSync``.
    """

    def __init__(self, embedder: LipSyncEmbedder, **kwargs: Any) -> None:
        super().__init__(embedder, **kwargs)
        self.names, self.distances = (tuple(map(_own_name, names)) for names in (self.names, self.distances))

    def score(self, waveform: Tensor, frames: Tensor, *, sample_rate_hz: int, frame_rate_fps: float) -> ClipScore:
        """Score one clip; see ``LipSync.score``."""
        score = super().score(waveform, frames, sample_rate_hz=sample_rate_hz, frame_rate_fps=frame_rate_fps)
        values = {_own_name(name): value for name, value in score.values.items()}
        reasons, notes = (
            {_own_name(name): text for name, text in texts.items()} for texts in (score.reasons, score.notes)
        )
        return replace(score, values=values, reasons=reasons, notes=notes)


def _own_name(name: str) -> str:
    return name if name == "lip_sync" else f"nano_{name}"


def _speaker(_weights: Path) -> ClipMean:
    return SpeakerSimilarity(load_instruments().speaker)


def _lip_sync(_weights: Path) -> ClipMean:
    return NanoLipSync(load_instruments().lip_sync)


def _phonemes(_weights: Path) -> ClipMean:
    return TranscriptErrorRate(load_instruments().transcriber, name="phoneme_error_rate")


def _word_leak(_weights: Path) -> ClipMean:
    return ReferenceWordLeak(load_instruments().transcriber, strangers=all_texts())


def _environment(_weights: Path) -> ClipMean:
    return EnvironmentAccuracy(load_instruments().environment)


@functools.cache
def _clips() -> tuple[tuple[Clip, ...], tuple[str, ...]]:
    """Render what the anchors are measured on: two clips of one unseen speaker, then one of another."""
    people = [speaker(split_seed("instruments_test", index)) for index in (0, 0, 1)]
    texts = [script(_SCRIPT), script(_SCRIPT + 1), script(_SCRIPT)]
    made = render(people, texts)
    clips = [
        Clip(frames, sound[None], FRAME_RATE_FPS, SAMPLE_RATE_HZ)
        for frames, sound in zip(made.frames, made.waveform, strict=True)
    ]
    return tuple(clips), tuple(" ".join(text.words) for text in texts)


def _delayed(clip: Clip, n_frames: int) -> Clip:
    """Return the clip with its sound later by whole frames."""
    n_samples = round(n_frames * SAMPLE_RATE_HZ / FRAME_RATE_FPS)
    return replace(clip, waveform=clip.waveform.roll(n_samples, -1))


def _measure_speaker(metric: ClipMean, _inputs: Inputs) -> dict[str, float]:
    (own, again, other), _ = _clips()
    voices = {"same": again, "different": other}
    scores = {name: metric.score_clip(own, Expected(voice.waveform, SAMPLE_RATE_HZ)) for name, voice in voices.items()}
    return {name: score.values["speaker_similarity"] for name, score in scores.items()}


def _measure_lip_sync(metric: ClipMean, _inputs: Inputs) -> dict[str, float]:
    clip = _clips()[0][0]
    together, apart = (metric.score_clip(one, Expected()).values for one in (clip, _delayed(clip, 3)))
    return {"lip_sync": together["lip_sync"], "offset": together["nano_lip_offset"], "late": apart["nano_lip_offset"]}


def _measure_phonemes(metric: ClipMean, _inputs: Inputs) -> dict[str, float]:
    clips, words = _clips()
    said = {"right": words[0], "wrong": words[1]}
    return {
        name: metric.score_clip(clips[0], Expected(words=text)).values["phoneme_error_rate"]
        for name, text in said.items()
    }


def _measure_word_leak(metric: ClipMean, _inputs: Inputs) -> dict[str, float]:
    clips, words = _clips()
    texts = {"played_back": (words[1], words[0]), "own_words": (words[0], words[1])}
    return {
        name: metric.score_clip(clips[0], Expected(words=expected, reference_words=reference)).values[
            "reference_word_leak"
        ]
        for name, (expected, reference) in texts.items()
    }


def _measure_environment(metric: ClipMean, _inputs: Inputs) -> dict[str, float]:
    clip, place = _clips()[0][0], script(_SCRIPT).environment
    heard = [
        metric.score_clip(clip, Expected(environment=name)).values["environment_accuracy"] for name in ENVIRONMENTS
    ]
    return {"right": heard[ENVIRONMENTS.index(place)], "all": sum(heard)}


def _anchor(
    what: str, measure: Callable[[ClipMean, Inputs], dict[str, float]], **values: tuple[float, float]
) -> Anchor:
    """Return an anchor of given values with their tolerances; its clips are rendered."""
    expected = {name: value for name, (value, _) in values.items()}
    tolerance = {name: allowed for name, (_, allowed) in values.items()}
    made = f"Rendered clips of unseen speakers: {what}; values as recorded when the instruments were made."
    return Anchor(made, expected, tolerance, measure, (), "nothing to get: the clips are rendered", quick=True)


CARDS = (
    Card(
        "nano_speaker",
        "Cosine of nano speaker embeddings of the clip and of another recording of the speaker.",
        SCORES["nano_speaker"],
        (),
        _speaker,
        _anchor("one speaker, and two", _measure_speaker, same=(0.949, 0.005), different=(0.261, 0.005)),
        notes=_NOTE,
        shipped=_SHIPPED,
        needs_target=False,
    ),
    Card(
        "nano_lip_sync",
        "Agreement of mouth and sound in the nano world, with SyncNet's distances and offset.",
        SCORES["nano_lip_sync"],
        (),
        _lip_sync,
        _anchor(
            "as they are, and with sound three frames late",
            _measure_lip_sync,
            lip_sync=(0.907, 0.005),
            offset=(0.0, 0.0),
            late=(-3.0, 0.0),
        ),
        notes=_NOTE,
        shipped=_SHIPPED,
        needs_target=False,
    ),
    Card(
        "nano_phonemes",
        "Phoneme edits per expected phoneme, as the nano recogniser hears them.",
        SCORES["nano_phonemes"],
        (),
        _phonemes,
        _anchor("its own words, and another clip's", _measure_phonemes, right=(0.0, 0.0), wrong=(0.75, 0.0)),
        notes=_NOTE,
        shipped=_SHIPPED,
        needs_target=False,
    ),
    Card(
        "nano_word_leak",
        "Phoneme edits against strangers' references minus those against the clip's own: 0 where nothing is copied.",
        SCORES["nano_word_leak"],
        (),
        _word_leak,
        _anchor(
            "as if its reference had been played back, and with its own words",
            _measure_word_leak,
            played_back=(0.791, 0.001),
            own_words=(0.041, 0.001),
        ),
        notes=_NOTE,
        shipped=_SHIPPED,
        needs_target=False,
    ),
    Card(
        "nano_environment",
        "Whether the nano environment that is heard is the one that the prompt names.",
        SCORES["nano_environment"],
        (),
        _environment,
        _anchor("its own place, and all places", _measure_environment, right=(1.0, 0.0), all=(1.0, 0.0)),
        notes=_NOTE,
        shipped=_SHIPPED,
        needs_target=False,
    ),
)
