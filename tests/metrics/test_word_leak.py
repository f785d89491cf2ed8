"""How much of the reference's words is heard: nothing where nothing is copied, most where it is played back."""

import random

import pytest
import torch
from torch import Tensor

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import Expected
from idlora_pl.metrics.words import ReferenceWordLeak
from idlora_pl.nano.world import all_texts

# all 750 take half a minute; what is left out is spread over all first and second words
STRANGERS = all_texts()[::7]
SOUND = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0))


class Hearing:
    """A recogniser that hears a given text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def transcribe(self, waveform: Tensor, sample_rate_hz: int) -> list[str]:
        return [self.text] * len(waveform)


def leak(heard: str, words: str, reference_words: str) -> float | str:
    metric = ReferenceWordLeak(Hearing(heard), strangers=STRANGERS)
    score = metric.score(SOUND, words, reference_words, sample_rate_hz=16000)
    return score.values["reference_word_leak"] if score.values else score.reason_of("reference_word_leak")


def test_a_hand_made_case():
    strangers = ["b b", "a b", "c c", "a a"]
    metric = ReferenceWordLeak(Hearing("a b"), strangers=strangers)
    # errors against "b b" and "c c" are 1/2 and 1; "a b" is expected and "a a" is the reference, whose error is 1/2
    score = metric.score(SOUND, "a b", "a a", sample_rate_hz=16000)
    assert score.values["reference_word_leak"] == pytest.approx((0.5 + 1.0) / 2 - 0.5)


def test_a_played_back_reference_leaks_and_the_right_words_do_not():
    rng = random.Random(0)
    pairs = [rng.sample(all_texts(), 2) for _ in range(100)]
    assert min(leak(reference, words, reference) for words, reference in pairs) > 0.7
    said = [leak(words, words, reference) for words, reference in pairs]
    # the standard error of the mean is about 0.02
    assert abs(sum(said) / len(said)) < 0.06


def test_without_a_difference_of_words_there_is_no_leak_to_see():
    assert leak("aa eh", "aa eh aa eh", "") == "no_reference_words"
    assert leak("aa eh", "aa eh aa eh", "aa eh aa eh") == "reference_says_the_same"
    clip = Clip(torch.zeros(25, 3, 8, 8, dtype=torch.uint8), SOUND[None], 25.0, 16000)
    metric = ReferenceWordLeak(Hearing("aa"), strangers=STRANGERS)
    assert metric.score_clip(clip, Expected(words="aa eh")).reason_of("reference_word_leak") == "no_reference_words"
    found = metric.score_clip(clip, Expected(words="aa eh", reference_words="aa"))
    assert found.values["reference_word_leak"] > 0


@pytest.mark.parametrize("strangers", [["a", "b"], ["a", "b", "a ", "b"]])
def test_too_few_strangers_are_refused(strangers):
    with pytest.raises(ValueError, match="strangers must be at least three different texts; got 2"):
        ReferenceWordLeak(Hearing(""), strangers=strangers)
