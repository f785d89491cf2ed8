"""Clips become pairs with a prompt; what cannot be paired is listed with its reason."""

import json

import pytest

from data_tools.manifest import read_rows, write_rows
from data_tools.pair_clips import pair_clips

CLIPS = [
    ("a0", "ann", "v1"),
    ("a1", "ann", "v1"),
    ("a2", "ann", "v2"),
    ("b0", "bob", "v3"),
    ("n0", "", "v4"),
]
KEYS = ("key", "target", "reference", "speaker", "prompt", "n_frames")


@pytest.fixture
def clips(tmp_path):
    rows = [
        {
            "key": key,
            "path": f"clips/{key}.mp4",
            "source": source,
            "speaker": speaker,
            "n_frames": 17,
            "duration_s": 0.68,
        }
        for key, speaker, source in CLIPS
    ]
    write_rows(tmp_path / "cut" / "clips.jsonl", rows)
    return tmp_path / "cut" / "clips.jsonl"


def test_pairs_name_files_relative_to_their_list(clips, tmp_path, prompt):
    pair_clips(str(clips), str(tmp_path / "lists" / "pairs.jsonl"), prompt=prompt)
    pairs = {row["key"]: row for row in read_rows(tmp_path / "lists" / "pairs.jsonl", KEYS)}
    assert sorted(pairs) == ["a0", "a1", "a2"]
    assert pairs["a0"]["target"] == "../cut/clips/a0.mp4"
    assert pairs["a0"]["reference"] == "../cut/clips/a2.mp4"
    assert {row["prompt"] for row in pairs.values()} == {prompt}


def test_clips_that_cannot_be_paired_have_a_reason(clips, tmp_path, prompt):
    (tmp_path / "prompts.json").write_text(json.dumps({"a0": prompt, "v2": prompt}))
    pair_clips(str(clips), str(tmp_path / "pairs.jsonl"), prompts=str(tmp_path / "prompts.json"))
    rejected = read_rows(tmp_path / "rejected_pairs.jsonl", ["key", "reason"])
    reasons = {row["key"]: row["reason"] for row in rejected}
    assert reasons == {"n0": "no_speaker", "b0": "no_reference", "a1": "no_prompt"}
    assert [row["key"] for row in read_rows(tmp_path / "pairs.jsonl", KEYS)] == ["a0", "a2"]


def test_several_references_give_several_pairs(clips, tmp_path, prompt):
    pair_clips(str(clips), str(tmp_path / "pairs.jsonl"), per_target=2, prompt=prompt)
    keys = [row["key"] for row in read_rows(tmp_path / "pairs.jsonl", KEYS)]
    assert keys == ["a0", "a1", "a2", "a2-r1"]


def test_bad_input_is_refused(clips, tmp_path, prompt):
    output, prompts = str(tmp_path / "pairs.jsonl"), tmp_path / "prompts.json"
    with pytest.raises(ValueError, match=r"clip a0: prompt section \[SPEECH\] is missing"):
        pair_clips(str(clips), output, prompt="[VISUAL]: x [SOUNDS]: y")
    with pytest.raises(ValueError, match=r"prompts.json does not exist; write a JSON object of prompts"):
        pair_clips(str(clips), output, prompts=str(prompts))
    prompts.write_text("[1]")
    with pytest.raises(ValueError, match=r"prompts.json must be one object"):
        pair_clips(str(clips), output, prompts=str(prompts))
    with pytest.raises(ValueError, match=r"no clip could be paired; .*rejected_pairs.jsonl has the reasons"):
        pair_clips(str(clips), output, rule="cross_environment", prompt=prompt)
