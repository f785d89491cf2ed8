"""The text table: words with their slots, the place, the null prompt; what it does not know is refused."""

import pytest
import torch

from idlora_pl.nano.text import NanoTextEncoder
from idlora_pl.nano.world import ENVIRONMENTS, script

PROMPT = "[VISUAL]: A person talks. [SPEECH]: {} [SOUNDS]: {}"


def encoded(words: str, sounds: str = "steady rain") -> torch.Tensor:
    return NanoTextEncoder().encode([PROMPT.format(words, sounds)]).video[0]


def test_prompts_that_differ_in_content_have_other_tokens():
    made = [encoded("aa ee"), encoded("ee aa"), encoded("aa"), encoded("aa ee", "engine hum")]
    assert all(not torch.equal(one, other) for k, one in enumerate(made) for other in made[k + 1 :])


def test_what_is_seen_has_no_token():
    prompts = [f"[VISUAL]: {seen} [SPEECH]: aa ee [SOUNDS]: steady rain" for seen in ("A woman.", "A man.")]
    first, second = NanoTextEncoder().encode(prompts).video
    assert torch.equal(first, second)


def test_every_script_can_be_encoded():
    features = NanoTextEncoder().encode([script(seed).prompt for seed in range(50)])
    assert features.video.shape == features.audio.shape == (50, 8, 32)
    assert features.mask.all()


def test_the_empty_prompt_is_the_null_text():
    null = NanoTextEncoder().encode([""]).video[0]
    assert (null[:, -1] == 1).all()
    assert (null[:, :-1] == 0).all()


def test_case_and_punctuation_do_not_matter():
    assert torch.equal(encoded("Aa, ee."), encoded("aa ee"))


@pytest.mark.parametrize(
    ("words", "sounds", "message"),
    [
        ("hello", "steady rain", r"\[SPEECH\] has the word 'hello'; the nano world only speaks aa, eh"),
        ("aa ee aa ee aa", "steady rain", r"\[SPEECH\] has 5 words; a nano clip holds at most 4"),
        ("aa", "a bus", rf"\[SOUNDS\] is 'a bus'; the nano world only knows {ENVIRONMENTS[0]}"),
    ],
)
def test_what_the_world_does_not_know_is_refused(words, sounds, message):
    with pytest.raises(ValueError, match=message):
        encoded(words, sounds)


def test_a_prompt_without_its_sections_is_refused():
    with pytest.raises(ValueError, match=r"prompt section \[VISUAL\] is missing"):
        NanoTextEncoder().encode(["aa ee"])
