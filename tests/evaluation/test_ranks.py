"""On several ranks each clip is scored once, and the scores are those of one process."""

import json
from functools import partial

import pytest

from idlora_pl.cli.tools import call_tool
from idlora_pl.results.scores_file import read_scores

score = partial(call_tool, "score")


@pytest.fixture
def many(nano_manifest, tmp_path):
    """Five items, which two ranks cannot share evenly."""
    content = json.loads(nano_manifest.read_text())
    first, second, _ = content["items"]
    content["items"] = [(first if k % 2 else second) | {"id": f"item-{k}"} for k in range(5)]
    path = tmp_path / "many.json"
    path.write_text(json.dumps(content))
    return path


def by_clip(path):
    return {row.key: (row.scores, row.notes["clip_sha256"]) for row in read_scores(path)}


@pytest.fixture
def one(many, proofs, tmp_path):
    """Arguments of the tool, and scores of one process."""
    common = [str(many), "--row", "real", "--bound", "target", "--scorers", "nano_phonemes,nano_speaker"]
    common += ["--verified", str(proofs)]
    score([*common, "--scores", str(tmp_path / "one.jsonl")])
    return common, tmp_path / "one.jsonl"


def start_with(lines, n_lines, path):
    path.write_text("".join(line + "\n" for line in lines[:n_lines]))


@pytest.mark.slow
def test_two_ranks_score_what_is_left_each_clip_once(one, tmp_path):
    common, expected = one
    start_with(expected.read_text().splitlines(), 3, two := tmp_path / "two.jsonl")
    score([*common, "--scores", str(two), "--devices", "2", "--accelerator", "cpu"])
    lines = [json.loads(line) for line in two.read_text().splitlines()]
    assert len(lines) == len({(line["key"], line["scorer"]) for line in lines}) == 10
    assert by_clip(two) == by_clip(expected)


@pytest.mark.slow
def test_a_rank_without_work_waits_for_the_other(one, tmp_path):
    common, expected = one
    start_with(expected.read_text().splitlines(), 9, two := tmp_path / "two.jsonl")
    score([*common, "--scores", str(two), "--devices", "2", "--accelerator", "cpu"])
    assert len(two.read_text().splitlines()) == 10
    assert by_clip(two) == by_clip(expected)


def test_a_device_that_is_not_here_is_named(one, tmp_path):
    common, _ = one
    with pytest.raises(ValueError, match=r"^--devices 1 with --accelerator tpu cannot be used \("):
        score([*common, "--scores", str(tmp_path / "two.jsonl"), "--devices", "1", "--accelerator", "tpu"])
    assert not (tmp_path / "two.jsonl").exists()
