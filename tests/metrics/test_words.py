"""Word errors: hand-made texts, an independent edit distance, and a reason for everything that has no value."""

import pickle
import unicodedata

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import Expected
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.metrics.words import GrammarErrors, WordErrors, one_spelling, released_words
from idlora_pl.scorers.words.whisper import StandardWords

RATE = 16000
SOUND = 0.1 * torch.sin(torch.arange(RATE) * 0.3)


class Dictation:
    """Writes down the same text of every clip."""

    def __init__(self, text: str) -> None:
        self.text, self.asked = text, []

    def transcribe(self, waveform, sample_rate_hz, *, language="en"):
        self.asked.append((tuple(waveform.shape), sample_rate_hz, language))
        if language == "xx":
            raise Unscorable("language_unknown")
        return [self.text] * len(waveform)


def clip_of(sound: torch.Tensor) -> Clip:
    return Clip(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), sound[None], 25.0, RATE)


def vowels(text: str, language: str) -> str:
    return " ".join(word for word in text.split() if word[0] in "aeiou")


def metric_of(text: str) -> WordErrors:
    return WordErrors(Dictation(text), {"": released_words, "_vowels": vowels})


def distance(a, b) -> int:
    """Edit distance by recursion over prefixes, written independently of torchmetrics."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("It's  Part-Time;\tEnglish 101.", "its parttime english 101"),
        ("snake_case — naïve Ärger", "snake_case naïve ärger"),
        ("?!.", ""),
        ("  ", ""),
        ("你好，世界", "你好世界"),
    ],
)
def test_the_released_normaliser_on_hand_made_texts(text, normal):
    assert released_words(text) == normal


SPELLINGS = ["Don't worry, Zoë: l'été à Łódź, naïve 2nd fine", "It's o'clock in São Paulo", "Ça va, où es-tu?"]
APOSTROPHES = "'\u2019\u2018\u02bc\u2032\uff07\u00b4`"


@given(
    text=st.sampled_from(SPELLINGS),
    form=st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]),
    apostrophe=st.sampled_from(APOSTROPHES),
    invisible=st.sampled_from(["", "\u00ad", "\u200b", "\u2060", "\ufeff"]),
)
def test_one_text_in_another_unicode_spelling_has_no_error(text, form, apostrophe, invisible):
    written = unicodedata.normalize(form, text).replace("'", apostrophe).replace("a", f"a{invisible}")
    assert released_words(written) == released_words(text)
    standard = StandardWords({})
    for language in ("en", "fr"):
        assert standard(written, language) == standard(text, language)
    assert one_spelling(one_spelling(written)) == one_spelling(written)


def test_other_letters_and_accents_are_other_words():
    assert len({released_words(text) for text in ("etes", "étés", "ete\u0300s", "wont", "w'ont x")}) == 5


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    assert released_words(released_words(text)) == released_words(text)


@given(st.text("ab ", min_size=1, max_size=12), st.text("ab ", max_size=12))
def test_errors_are_edits_per_expected_word_and_character(expected, heard):
    score = metric_of(heard).score(SOUND, expected, sample_rate_hz=RATE)
    words, spoken = expected.split(), heard.split()
    if not words:
        assert score.reason == "no_expected_words"
        return
    assert score.values["wer"] == pytest.approx(distance(spoken, words) / len(words))
    letters = " ".join(words)
    assert score.values["cer"] == pytest.approx(distance(" ".join(spoken), letters) / len(letters))


def test_one_transcription_gives_all_scores_and_its_text_is_noted():
    metric = metric_of("I said, 'an apple'")
    score = metric.score(SOUND, "i said an Orange", sample_rate_hz=RATE, language="fr")
    assert metric.transcriber.asked == [((1, RATE), RATE, "fr")]
    assert metric.names == ("wer", "cer", "wer_vowels", "cer_vowels")
    assert score.values["wer"] == 0.25
    assert score.values["wer_vowels"] == 1.0
    assert score.notes == {"transcript": "I said, 'an apple'"}


def test_a_text_that_one_normaliser_empties_has_a_reason_under_that_one_alone():
    score = metric_of("me").score(SOUND, "me", sample_rate_hz=RATE)
    assert score.values == {"wer": 0.0, "cer": 0.0}
    assert score.reasons == {"wer_vowels": "no_expected_words", "cer_vowels": "no_expected_words"}


@pytest.mark.parametrize(
    ("waveform", "words", "language", "reason"),
    [
        (SOUND, "", "en", "no_expected_words"),
        (SOUND, "...", "en", "no_expected_words"),
        (SOUND[:0], "a", "en", "no_audio"),
        (SOUND[:100], "a", "en", "too_short"),
        (0 * SOUND, "a", "en", "silent"),
        (SOUND / 0, "a", "en", "not_finite"),
        (SOUND, "a", "xx", "language_unknown"),
    ],
)
def test_a_clip_that_cannot_be_scored_has_a_reason(waveform, words, language, reason):
    metric = metric_of("a")
    score = metric.score(waveform, words, sample_rate_hz=RATE, language=language)
    assert score.values == {}
    assert {score.reason_of(name) for name in metric.names} == {reason}


def test_an_empty_transcript_is_an_error_and_not_a_reason():
    assert metric_of("").score(SOUND, "a b", sample_rate_hz=RATE).values["wer"] == 1.0


def test_the_mean_is_over_clips_and_survives_pickling_order_and_batches():
    clips = [clip_of(SOUND), clip_of(0 * SOUND), clip_of(SOUND), clip_of(SOUND)]
    expected = [Expected(words=words) for words in ("an egg", "no", "", "an owl or an egg")]
    whole, split = metric_of("an egg"), metric_of("an egg")
    whole.update(clips, expected)
    for index in (3, 0, 2, 1):
        split.update(clips[index], expected[index])
    assert {k: v.item() for k, v in whole.compute().items()} == pytest.approx(
        {k: v.item() for k, v in pickle.loads(pickle.dumps(split)).compute().items()}, nan_ok=True
    )
    assert whole.compute()["wer"].item() == pytest.approx((0 + 3 / 5) / 2)
    assert whole.compute()["wer/n_scored"] == 2


def test_the_grammar_is_asked_about_normalised_words():
    asked = []

    def accepts(words: str) -> bool:
        asked.append(words)
        return words == "go on"

    metric = GrammarErrors(Dictation("Go on!"), accepts)
    clip = clip_of(SOUND)
    assert metric.score_clip(clip, Expected(words="Go, on.")).values == {"wer_grammar": 0.0}
    assert metric.score_clip(clip, Expected(words="go off")).reason == "words_not_in_grammar"
    assert metric.score_clip(clip, Expected(words="")).reason == "no_expected_words"
    assert asked == ["go on", "go off"]
    metric.update(clip, Expected(words="go on"))
    assert metric.compute()["wer_grammar"] == 0
