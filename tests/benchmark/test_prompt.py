"""Prompts come apart into their sections and back together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.benchmark.prompt import PromptSections, split_prompt

words = st.text(alphabet=st.characters(exclude_characters="[]", exclude_categories=("Cs",)), min_size=1)
sections = words.map(str.strip).filter(bool)


@given(sections, sections, sections)
def test_split_is_the_inverse_of_join(visual, speech, sounds):
    prompt = PromptSections(visual, speech, sounds)
    assert split_prompt(prompt.join()) == prompt


def test_sections_may_stand_in_any_order_and_on_their_own_lines():
    text = "\n[SOUNDS]: Rain.\n[VISUAL]: A man talks.\n\n[SPEECH]: It's [laughs] six o'clock: go.\n"
    assert split_prompt(text) == PromptSections("A man talks.", "It's [laughs] six o'clock: go.", "Rain.")


@pytest.mark.parametrize("missing", ["VISUAL", "SPEECH", "SOUNDS"])
def test_a_missing_section_is_named(missing):
    text = " ".join(f"[{name}]: x" for name in ("VISUAL", "SPEECH", "SOUNDS") if name != missing)
    with pytest.raises(ValueError, match=rf"section \[{missing}\] is missing in '.*'; write it as \[VISUAL\]: "):
        split_prompt(text)


def test_an_empty_section_is_named():
    with pytest.raises(ValueError, match=r"section \[SPEECH\] is empty; write the prompt as"):
        split_prompt("[VISUAL]: A man. [SPEECH]: [SOUNDS]: Rain.")


def test_a_section_written_twice_is_named():
    with pytest.raises(ValueError, match=r"section \[SPEECH\] is written 2 times"):
        split_prompt("[VISUAL]: A man. [SPEECH]: Yes. [SPEECH]: No. [SOUNDS]: Rain.")


def test_text_before_the_first_section_is_refused():
    with pytest.raises(ValueError, match=r"prompt has 'Here is the caption:' before its first section"):
        split_prompt("Here is the caption: [VISUAL]: A man. [SPEECH]: Yes. [SOUNDS]: Rain.")


def test_a_heading_inside_a_section_cannot_be_joined():
    with pytest.raises(ValueError, match=r"section \[VISUAL\] holds another heading"):
        PromptSections("A man. [SOUNDS]: wind", "Yes.", "Rain.")
