"""The instruments of the nano world as scorers; they ship with the package."""

from pathlib import Path

from idlora_pl.metrics.clip_mean import ClipMean
from idlora_pl.metrics.environment import EnvironmentAccuracy
from idlora_pl.metrics.lip_sync import LipSync
from idlora_pl.metrics.speaker import SpeakerSimilarity
from idlora_pl.metrics.transcript import TranscriptErrorRate
from idlora_pl.nano.embedders import load_instruments
from idlora_pl.scorers.card import Card, Score

_NOTE = "Measures clips of the nano world only; how well is in idlora_pl/nano/assets/INSTRUMENTS.md."


def _speaker(_weights: Path) -> ClipMean:
    return SpeakerSimilarity(load_instruments().speaker)


def _lip_sync(_weights: Path) -> ClipMean:
    return LipSync(load_instruments().lip_sync)


def _phonemes(_weights: Path) -> ClipMean:
    return TranscriptErrorRate(load_instruments().transcriber, name="phoneme_error_rate")


def _environment(_weights: Path) -> ClipMean:
    return EnvironmentAccuracy(load_instruments().environment)


CARDS = (
    Card(
        "nano_speaker",
        "Cosine of nano speaker embeddings of the clip and of another recording of the speaker.",
        (Score("speaker_similarity", "speaker similarity", "higher", worst=0.0),),
        (),
        _speaker,
        notes=_NOTE,
    ),
    Card(
        "nano_lip_sync",
        "Agreement of mouth and sound in the nano world, with SyncNet's distances and offset.",
        (
            Score("lip_sync", "lip-sync", "higher", worst=0.0),
            Score("lse_d", "LSE-D (nano)", "lower"),
            Score("lse_c", "LSE-C (nano)", "higher", worst=0.0),
            Score("lip_offset", "lip offset, steps", "near zero", digits=1),
        ),
        (),
        _lip_sync,
        notes=_NOTE,
    ),
    Card(
        "nano_phonemes",
        "Phoneme edits per expected phoneme, as the nano recogniser hears them.",
        (Score("phoneme_error_rate", "phoneme error rate", "lower", worst=1.0),),
        (),
        _phonemes,
        notes=_NOTE,
    ),
    Card(
        "nano_environment",
        "Whether the nano environment that is heard is the one that the prompt names.",
        (Score("environment_accuracy", "environment accuracy", "higher", worst=0.0),),
        (),
        _environment,
        notes=_NOTE,
    ),
)
