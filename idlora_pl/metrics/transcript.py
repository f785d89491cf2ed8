"""Which words are heard: those of the prompt, or those of the reference?"""

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


class ReferenceWordLeak(ClipMean):
    """Mean over clips of how much closer the heard words are to the reference's than to a stranger's.

    A clip's score is the word error rate against the texts of strangers, averaged over them, minus the one against the
    words of its own reference: 0 on average where nothing is copied, and at most the strangers' error rate (near 1)
    where the reference is played back. Speaker similarity alone cannot tell a voice that was learnt from a recording
    that was copied; this score can.

    Args:
        transcriber: The recogniser.
        strangers: Texts that references of other people have. The clip's own prompt and reference are left out.
        name: Column name.
        kwargs: Passed to ``torchmetrics.Metric``.

    Raises:
        ValueError: There are fewer than three different strangers' texts.
    """

    higher_is_better = False

    def __init__(
        self,
        transcriber: Transcriber,
        *,
        strangers: Sequence[str],
        name: str = "reference_word_leak",
        **kwargs: bool,
    ) -> None:
        super().__init__((name,), **kwargs)
        # two of them may be those of the clip itself
        if (n_texts := len({tuple(text.split()) for text in strangers})) < 3:
            raise ValueError(f"strangers must be at least three different texts; got {n_texts}")
        self.transcriber, self.strangers = transcriber, tuple(strangers)

    def score(self, waveform: Tensor, words: str, reference_words: str, *, sample_rate_hz: int) -> ClipScore:
        """Score one clip.

        Args:
            waveform: (S,) samples in [-1, 1].
            words: What the clip should say, separated by spaces.
            reference_words: What its reference says.
            sample_rate_hz: Rate of the waveform.
        """

        def leak() -> dict[str, float]:
            if not reference_words.split():
                raise Unscorable("no_reference_words")
            if reference_words.split() == words.split():
                raise Unscorable("reference_says_the_same")
            voice = check_waveform(waveform, sample_rate_hz)
            (heard,) = self.transcriber.transcribe(voice[None], sample_rate_hz)
            others = [text for text in self.strangers if text.split() not in (words.split(), reference_words.split())]
            error = sum(transcript_error_rate(heard, text) for text in others) / len(others)
            return {self.names[0]: error - transcript_error_rate(heard, reference_words)}

        return scored(leak)

    def score_clip(self, clip: Clip, expected: Expected) -> ClipScore:
        """Score one clip; where the item does not say its reference's words, the reason is ``no_reference_words``."""
        words = (expected.words, expected.reference_words)
        return self.score(mono(clip.waveform), *words, sample_rate_hz=clip.sample_rate_hz)

    def update(
        self, waveform: Tensor, words: Sequence[str], reference_words: Sequence[str], *, sample_rate_hz: int
    ) -> None:
        """Count waveforms (B, S) against B strings of expected and B of reference words."""
        counts = [1 if isinstance(texts, str) else len(texts) for texts in (words, reference_words)]
        if waveform.ndim != 2 or counts != [len(waveform)] * 2:
            raise ValueError(
                f"waveform must be (B, S) with B strings of words and of reference words; got {tuple(waveform.shape)} "
                f"and {counts[0]} and {counts[1]} strings"
            )
        self.add(
            self.score(one, text, other, sample_rate_hz=sample_rate_hz)
            for one, text, other in zip(waveform, words, reference_words, strict=True)
        )
