"""Transcript error rate: are the words of the prompt the words that are heard?"""

from collections.abc import Sequence

from torch import Tensor

from idlora_pl.media import Clip
from idlora_pl.metrics.clip_mean import ClipMean, ClipScore, Expected, mono, scored
from idlora_pl.metrics.embedders import Transcriber
from idlora_pl.metrics.functional import transcript_error_rate
from idlora_pl.metrics.scorable import Unscorable, check_waveform


class TranscriptErrorRate(ClipMean):
    """Mean over clips of word edits per expected word.

    The mean is over clips and not over words, so that it equals the mean of the rows.

    Args:
        transcriber: The recogniser.
        name: Column name: ``wer`` for words, ``phoneme_error_rate`` where the words are phonemes.
        kwargs: Passed to ``torchmetrics.Metric``.
    """

    higher_is_better = False

    def __init__(self, transcriber: Transcriber, *, name: str = "wer", **kwargs: bool) -> None:
        super().__init__((name,), **kwargs)
        self.transcriber = transcriber

    def score(self, waveform: Tensor, words: str, *, sample_rate_hz: int) -> ClipScore:
        """Score one clip: waveform (S,) in [-1, 1] against the expected words, separated by spaces."""

        def error_rate() -> dict[str, float]:
            if not words.split():
                raise Unscorable("no_expected_words")
            voice = check_waveform(waveform, sample_rate_hz)
            (transcript,) = self.transcriber.transcribe(voice[None], sample_rate_hz)
            return {self.names[0]: transcript_error_rate(transcript, words)}

        return scored(error_rate)

    def score_clip(self, clip: Clip, expected: Expected) -> ClipScore:
        """Score one clip against the expected words; without any the reason is ``no_expected_words``."""
        return self.score(mono(clip.waveform), expected.words, sample_rate_hz=clip.sample_rate_hz)

    def update(self, waveform: Tensor, words: Sequence[str], *, sample_rate_hz: int) -> None:
        """Count waveforms (B, S) against B strings."""
        if waveform.ndim != 2 or isinstance(words, str) or len(waveform) != len(words):
            count = "one string" if isinstance(words, str) else f"{len(words)} strings"
            raise ValueError(
                f"waveform must be (B, S) with B strings of words; got {tuple(waveform.shape)} and {count}"
            )
        self.add(
            self.score(one, text, sample_rate_hz=sample_rate_hz) for one, text in zip(waveform, words, strict=True)
        )
