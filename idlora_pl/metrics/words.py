"""Are the words of the prompt heard? Word and character errors under named normalisers, from one transcription.

And which words are heard: those of the prompt, or those of the reference?
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor
from torchmetrics.functional.text import char_error_rate

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import ClipMean, ClipScore, Expected, mono, scored
from idlora_pl.metrics.embedders import Transcriber
from idlora_pl.metrics.functional import transcript_error_rate
from idlora_pl.metrics.scorable import Unscorable, check_waveform

Normaliser = Callable[[str, str], str]
"""Maps a text and its language (ISO 639-1) to words separated by single spaces."""


# apostrophes as word processors, phones and keyboards write them; the prime and the backtick stand in for one
_APOSTROPHES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201b\u02b9\u02bb\u02bc\u02bd\u2032\u2035\u00b4\u0060\uff07\u055a", "'")
)
# soft hyphens, zero width characters and direction marks: nobody says them
_INVISIBLE = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff]")


def one_spelling(text: str) -> str:
    r"""Return a text in one Unicode spelling, before words are compared.

    A letter and its accent become one character, wide letters and ligatures plain ones (NFKC), and apostrophes that of
    ASCII; what is invisible goes.

    Example:
        >>> one_spelling("Don\u2019t worry, Zoe\u0308, it is \ufb01ne")
        "Don't worry, Zoë, it is fine"
    """
    # first, since NFKC makes a space and an accent of some of them
    return unicodedata.normalize("NFKC", _INVISIBLE.sub("", text).translate(_APOSTROPHES))


def released_words(text: str, language: str = "en") -> str:
    """Normalise a text as the authors' metric does, in every language alike, once it is in one Unicode spelling.

    Lower case, without any character that is neither a word character nor a space, with single spaces. Numbers and
    contractions stay as they are written, and words joined by a hyphen become one. The authors' metric takes the text
    as it is, so that the accents of a decomposed text are lost on one side and count as errors.

    Example:
        >>> released_words("It's  part-time; English 101.")
        'its parttime english 101'
    """
    return " ".join(re.sub(r"[^\w\s]", "", one_spelling(text).lower()).split())


class WordErrors(ClipMean):
    """Means over clips of word errors (`wer...`) and character errors (`cer...`), one pair a normaliser.

    An empty expected text is `no_expected_words`; the authors' code counts it as an error of 1. Characters include
    the spaces between words, as in jiwer. The transcript goes into the notes of the row.

    Args:
        transcriber: The recogniser, which runs once a clip.
        normalisers: Normaliser by ending of the column names: "" gives `wer` and `cer`, "_standard" gives
            `wer_standard` and `cer_standard`.
        kwargs: Passed to ``torchmetrics.Metric``.
    """

    higher_is_better = False

    def __init__(self, transcriber: Transcriber, normalisers: Mapping[str, Normaliser], **kwargs: bool) -> None:
        names = [(f"wer{ending}", f"cer{ending}") for ending in normalisers]
        super().__init__(tuple(name for pair in names for name in pair), **kwargs)
        self.transcriber = transcriber
        self.normalisers = dict(zip(names, normalisers.values(), strict=True))

    def score(self, waveform: Tensor, words: str, *, sample_rate_hz: int, language: str = "en") -> ClipScore:
        """Score one clip.

        Args:
            waveform: (S,) samples in [-1, 1].
            words: What should be said.
            sample_rate_hz: Rate of the waveform.
            language: ISO 639-1 code of the words.
        """

        def errors() -> ClipScore:
            expected = {names: normalise(words, language) for names, normalise in self.normalisers.items()}
            if not any(expected.values()):
                raise Unscorable("no_expected_words")
            voice = check_waveform(waveform, sample_rate_hz)
            (transcript,) = self.transcriber.transcribe(voice[None], sample_rate_hz, language=language)
            found = ClipScore(notes={"transcript": transcript})
            for names, normalise in self.normalisers.items():
                if not expected[names]:
                    found.reasons.update(dict.fromkeys(names, "no_expected_words"))
                    continue
                heard = normalise(transcript, language)
                rates = transcript_error_rate(heard, expected[names]), char_error_rate(heard, expected[names]).item()
                found.values.update(zip(names, rates, strict=True))
            return found

        return scored(errors)

    def score_clip(self, clip: Clip, expected: Expected) -> ClipScore:
        """Score one clip against the expected words in their language."""
        rate = clip.sample_rate_hz
        return self.score(mono(clip.waveform), expected.words, sample_rate_hz=rate, language=expected.language)


class GrammarErrors(ClipMean):
    """Mean over clips of word errors of a recogniser that can only hear the sentences of a grammar.

    Both texts are normalised by `released_words`. Expected words outside the grammar are `words_not_in_grammar`.

    Args:
        transcriber: The recogniser.
        accepts: Says whether normalised words are a sentence of its grammar.
        name: Column name.
        kwargs: Passed to ``torchmetrics.Metric``.
    """

    higher_is_better = False

    def __init__(
        self, transcriber: Transcriber, accepts: Callable[[str], bool], *, name: str = "wer_grammar", **kwargs: bool
    ) -> None:
        super().__init__((name,), **kwargs)
        self.transcriber = transcriber
        self.accepts = accepts

    def score(self, waveform: Tensor, words: str, *, sample_rate_hz: int) -> ClipScore:
        """Score one clip: waveform (S,) in [-1, 1] against the expected words."""

        def error_rate() -> ClipScore:
            expected = released_words(words)
            if not expected:
                raise Unscorable("no_expected_words")
            if not self.accepts(expected):
                raise Unscorable("words_not_in_grammar")
            voice = check_waveform(waveform, sample_rate_hz)
            (transcript,) = self.transcriber.transcribe(voice[None], sample_rate_hz)
            rate = transcript_error_rate(released_words(transcript), expected)
            return ClipScore({self.names[0]: rate}, notes={"transcript": transcript})

        return scored(error_rate)

    def score_clip(self, clip: Clip, expected: Expected) -> ClipScore:
        """Score one clip against the expected words."""
        return self.score(mono(clip.waveform), expected.words, sample_rate_hz=clip.sample_rate_hz)


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
