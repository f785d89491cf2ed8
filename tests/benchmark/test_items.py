"""Prompt files: the authors' JSON in both forms; what is wrong is named with file, entry and fix."""

import json
from dataclasses import FrozenInstanceError

import pytest

from idlora_pl.benchmark.items import PromptError, prompt_loader, read_prompts

PROMPT = "[VISUAL]: A man. [SPEECH]: Hello. [SOUNDS]: Rain."


def written(folder, content):
    path = folder / "prompts.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("around", [lambda x: x, lambda x: {"samples": x}, lambda x: {"variations": x}])
def test_items_are_completed(tmp_path, around):
    (tmp_path / "voice.wav").touch()
    content = [{"prompt": PROMPT, "reference_path": "voice.wav", "output_name": "a/b.mp4"}, {"prompt": PROMPT}]
    first, second = read_prompts(written(tmp_path, around(content)), seed=10)
    assert first.reference == tmp_path / "voice.wav"
    with pytest.raises(FrozenInstanceError):
        first.seed = 3
    assert (first.id, first.seed, first.first_frame) == ("b", 10, None)
    assert (second.id, second.seed) == ("0001", 11)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"prompts\.json is not JSON \("),
        ("[]", "holds no list of entries; write"),
        ({"clips": []}, "holds no list of entries; write"),
        (["a"], "entry 0 has no text under 'prompt'"),
        ([{"prompt": PROMPT}, {"prompt": "Hello"}], r"entry 1: prompt section \[VISUAL\] is missing in 'Hello'"),
        ([{"prompt": PROMPT, "voice": "a.wav"}], "entry 0 has the unknown key 'voice'; known are prompt,"),
        ([{"prompt": PROMPT, "seed": "x"}], "entry 0: seed must be a whole number from 0 to"),
        ([{"prompt": PROMPT, "seed": True}], "entry 0: seed must be a whole number from 0 to"),
        (
            [{"prompt": PROMPT, "reference_path": "no.wav"}],
            "reference_path 'no.wav' does not exist .looked",
        ),
        ([{"prompt": PROMPT, "output_name": "a"}] * 2, "uses output_name 'a' twice; give every entry its own"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, message):
    with pytest.raises(PromptError, match=message):
        read_prompts(written(tmp_path, content))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PromptError, match=r"nowhere\.json does not exist; pass an existing JSON file"):
        read_prompts(tmp_path / "nowhere.json")


def test_the_loader_gives_lists_of_items(tmp_path):
    items = read_prompts(written(tmp_path, [{"prompt": PROMPT}] * 3))
    batches = list(prompt_loader(items, 2))
    assert [[item.id for item in batch] for batch in batches] == [["0000", "0001"], ["0002"]]
