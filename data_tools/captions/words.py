"""Who writes down what is said: a recogniser of the scorers, or any speech model of transformers from a folder.

Letters: B clips, S samples.
"""

from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from data_tools.verb.lists import RejectedError
from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import mono
from idlora_pl.metrics.embedders import Transcriber
from idlora_pl.metrics.scorable import Unscorable, check_waveform
from idlora_pl.metrics.words import GrammarErrors, TranscriptErrorRate, WordErrors
from idlora_pl.scorers.loading import refuse_unavailable
from idlora_pl.scorers.registry import card_named

RECOGNISERS = ("wer", "wer_grammar", "nano_phonemes")
"""Scorers that hear words: Whisper large-v3, the grammar of the GRID corpus, and the vowels of the nano world."""


class SpeechModel:
    """The speech recognition pipeline of transformers; satisfies `metrics.embedders.Transcriber`.

    Args:
        folder: snapshot of Whisper, wav2vec2 or any other model that the pipeline runs.
        device: that it runs on.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from transformers import pipeline

        try:
            self.pipeline: Any = pipeline("automatic-speech-recognition", model=str(folder), device=device)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"--words {folder} cannot be loaded ({reason}); give the folder of a speech model"
            ) from error
        settings = getattr(self.pipeline.model, "generation_config", None)
        self.knows_languages = bool(getattr(settings, "is_multilingual", False))

    def transcribe(self, waveform: Tensor, sample_rate_hz: int, *, language: str = "en") -> list[str]:
        """Transcribe waveforms (B, S) in [-1, 1]; a model of one language does not look at the language."""
        told = {"generate_kwargs": {"language": language, "task": "transcribe"}} if self.knows_languages else {}
        sounds = [{"raw": one.float().numpy(), "sampling_rate": sample_rate_hz} for one in waveform]
        return [str(self.pipeline(sound, **told)["text"]).strip() for sound in sounds]


def refuse_missing_transcriber(name: str, weights: Path) -> None:
    """Raise what `load_transcriber` raises where a recogniser is not there; nothing is loaded.

    Raises:
        ValueError: there is no such scorer or folder.
        Unavailable: weights or a library of the scorer are missing.
    """
    if name in RECOGNISERS:
        refuse_unavailable([card_named(name)], weights)
    elif not Path(name).is_dir():
        raise ValueError(f"--words must be one of {', '.join(RECOGNISERS)} or a folder; got '{name}'")
    elif not (Path(name) / "config.json").is_file():
        raise ValueError(f"--words {name} has no config.json; give the folder of a speech model")


@cache
def load_transcriber(name: str, weights: Path, device: str) -> Transcriber:
    """Return a recogniser by the name of its scorer, or by its folder.

    Raises:
        ValueError: it is none, or cannot be loaded.
        Unavailable: weights or a library of the scorer are missing.
    """
    refuse_missing_transcriber(name, weights)
    if name not in RECOGNISERS:
        return SpeechModel(Path(name), device)
    metric = card_named(name).load(weights)
    assert isinstance(metric, WordErrors | GrammarErrors | TranscriptErrorRate)
    return metric.transcriber


def words_of(clip: Clip, transcriber: Transcriber, language: str) -> str:
    """Return what is said in a clip.

    Raises:
        RejectedError: no_words, when nothing is heard; or why it cannot be listened to: no_audio, silent, ...
    """
    try:
        voice = check_waveform(mono(clip.waveform), clip.sample_rate_hz)
        (said,) = transcriber.transcribe(voice[None], clip.sample_rate_hz, language=language)
    except Unscorable as fault:
        raise RejectedError(fault.reason, "its sound cannot be listened to") from fault
    if not said.strip():
        raise RejectedError("no_words", "no word was heard")
    return said.strip()
