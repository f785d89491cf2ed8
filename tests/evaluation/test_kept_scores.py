"""What a scores file holds: never of two manifests or folders in one row, never of two runs at once, versions named."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest

import idlora_pl
from idlora_pl.benchmark.items import read_prompts
from idlora_pl.cli.tools import call_tool
from idlora_pl.evaluation.plan import Folder
from idlora_pl.files import locked
from idlora_pl.metrics.clip_mean import ClipMean
from idlora_pl.report.formats import to_markdown
from idlora_pl.report.source import table_from_scores
from idlora_pl.results.scores_file import append_scores, read_scores
from idlora_pl.scorers.card import Card
from idlora_pl.scorers.registry import CARDS
from idlora_pl.scorers.scores import Score

score = partial(call_tool, "score")

ONE = ("--scorers", "nano_phonemes")


@pytest.fixture
def put(tmp_path):
    """Write a manifest of items by id, whose clips of `mine` are listed."""

    def write(name, *ids, mine=()):
        items = [{"id": one, "speaker": one, "caption": {"speech": "ba"}} for one in ids]
        for item in items:
            item["clips"] = {"mine": f"mine/{item['id']}.mp4"} if item["id"] in mine else {}
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"format": "idlora-benchmark-1", "name": name, "items": items}))
        return str(path)

    return write


@pytest.fixture
def real(nano_data):
    """Two real clips."""
    return [entry.target for entry in read_prompts(nano_data / "test/prompts.json")]


@pytest.fixture
def common(proofs, tmp_path):
    (tmp_path / "clips").mkdir()
    return ["--row", "r", "--scores", str(tmp_path / "s.jsonl"), "--verified", str(proofs), *ONE]


def reasons(tmp_path):
    return {row.key: set(row.reasons.values()) for row in read_scores(tmp_path / "s.jsonl")}


def test_two_manifests_are_not_one_row(put, common, tmp_path):
    clips = ["--clips", str(tmp_path / "clips")]
    score([put("first", "a", "b"), *clips, *common])
    row = read_scores(tmp_path / "s.jsonl")[0]
    assert (row.notes["manifest"], row.notes["manifest_items"], len(row.notes["manifest_sha256"])) == ("first", "2", 16)
    said = r"of manifest 'first' \(2 items\) in row 'r', this is manifest 'second' \(1 items\); give another --row, or "
    with pytest.raises(ValueError, match=f"{said}score the row anew with --again all"):
        score([put("second", "c"), *clips, *common])
    score([put("second", "c"), *clips, *common, "--again", "all"])
    assert reasons(tmp_path) == {"c": {"file_missing"}}


def test_a_run_that_stopped_is_not_a_whole_row(put, common, real, tmp_path):
    for name in "abc":
        shutil.copy(real[0], tmp_path / f"clips/{name}.mp4")
    score([put("m", *"abc"), "--clips", str(tmp_path / "clips"), *common])
    lines = (tmp_path / "s.jsonl").read_text().splitlines()
    (tmp_path / "s.jsonl").write_text("".join(line + "\n" for line in lines[:2]))
    table, _ = table_from_scores(tmp_path / "s.jsonl")
    assert "(2/3)" in to_markdown(table)
    assert "| 2/3 |" in to_markdown(table)


def test_a_clip_that_the_manifest_names_later_is_scored(put, common, tmp_path):
    score([put("m", "a", "b", mine=["a"]), "--method", "mine", *common])
    assert reasons(tmp_path) == {"a": {"file_missing"}, "b": {"clip_not_given"}}
    score([put("m", "a", "b", mine=["a", "b"]), "--method", "mine", *common])
    assert reasons(tmp_path) == {"a": {"file_missing"}, "b": {"file_missing"}}


def test_another_folder_without_the_clips_does_not_keep_their_scores(put, common, real, tmp_path):
    manifest = put("m", "a", "b")
    shutil.copy(real[0], tmp_path / "clips/a.mp4")
    score([manifest, "--clips", str(tmp_path / "clips"), *common])
    (tmp_path / "other").mkdir()
    said = r"other/a.mp4 does not exist, and .*s.jsonl holds scores of clips/a.mp4; give those clips or another --row"
    with pytest.raises(ValueError, match=f"{said}, or score row 'r' anew with --again all"):
        score([manifest, "--clips", str(tmp_path / "other"), *common])
    (tmp_path / "clips/a.mp4").unlink()  # what is scored is kept
    score([manifest, "--clips", str(tmp_path / "clips"), *common])
    shutil.copy(real[0], tmp_path / "other/a.mkv")  # the same bytes
    score([manifest, "--clips", str(tmp_path / "other"), *common])
    assert reasons(tmp_path) == {"a": set(), "b": {"file_missing"}}
    assert read_scores(tmp_path / "s.jsonl")[1].notes["clip"] == "other/b.mp4"


def test_a_seed_does_not_remove_lines_of_another(put, common, real, tmp_path):
    clips = ["--clips", str(tmp_path / "clips")]
    score([put("m", "a"), *clips, *common, "--seed", "1"])
    shutil.copy(real[0], tmp_path / "clips/a.mp4")
    score([put("m", "a"), *clips, *common, "--seed", "2"])
    assert [row.seed for row in read_scores(tmp_path / "s.jsonl")] == [1, 2]


def test_a_row_is_scored_by_one_process_at_a_time(put, common, tmp_path):
    arguments = [put("m", "a"), "--clips", str(tmp_path / "clips"), *common]
    with Folder((), {}, "r", tmp_path / "s.jsonl").claimed():
        with pytest.raises(ValueError, match=r"another `idlora score` scores row 'r' of .*s.jsonl now; wait for it"):
            score(arguments)
        score([*arguments, "--row", "another"])
    score(arguments)
    assert [row.row for row in read_scores(tmp_path / "s.jsonl")] == ["another", "r"]
    assert not list(tmp_path.glob(".*"))


def test_a_lock_that_a_killed_process_has_left_is_taken_over(tmp_path):
    code = "import os, sys; from idlora_pl.files import locked\nwith locked(sys.argv[1]): os._exit(9)"
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], check=False)
    assert (killed.returncode, (tmp_path / "lock").exists()) == (9, True)
    with locked(tmp_path / "lock", wait=False), pytest.raises(BlockingIOError), locked(tmp_path / "lock", wait=False):
        pass
    assert not (tmp_path / "lock").exists()


def test_an_empty_row_is_refused(put, common):
    with pytest.raises(ValueError, match="--row must be the name of a row of the table; got an empty one"):
        score([put("m", "a"), *common, "--row", " "])


class Failing(ClipMean):
    """A scorer that ends in an error at every clip."""

    def __init__(self, _weights):
        super().__init__(("a_score",))

    def update(self):
        raise NotImplementedError

    def score_clip(self, clip, expected):
        raise RuntimeError("a kernel is larger than its input")


def test_ranks_report_what_one_process_reports(put, common, real, monkeypatch, tmp_path, capsys):
    arguments = [put("m", "a", "b"), "--clips", str(tmp_path / "clips"), *common, "--devices", "1"]
    arguments += ["--accelerator", "cpu"]
    score(arguments)
    assert "r: 2 clips scored, 0 were scored before\nscores without a value: file_missing 2" in capsys.readouterr().out
    score(arguments)
    assert "r: 0 clips scored, 2 were scored before" in capsys.readouterr().out
    monkeypatch.setitem(CARDS, "flaky", Card("flaky", "Fails.", (Score("a_score", "A score", "higher"),), (), Failing))
    shutil.copy(real[0], tmp_path / "clips/a.mp4")
    with pytest.raises(SystemExit, match="scorers failed at 1 scores, which is a fault of ours"):
        score([*arguments, "--row", "f", "--scorers", "flaky"])
    assert "a: a_score: RuntimeError: a kernel is larger" in capsys.readouterr().out


def test_versions_that_mix_are_named_below_the_table(put, common, real, tmp_path):
    for name in "ab":
        shutil.copy(real[0], tmp_path / f"clips/{name}.mp4")
    score([put("m", *"ab"), "--clips", str(tmp_path / "clips"), *common])
    rows = read_scores(tmp_path / "s.jsonl")
    versions = rows[0].scorers["nano_phonemes"].versions
    assert versions["idlora_pl"] == idlora_pl.__version__
    assert {"av", "torch"} <= versions.keys()
    assert "scored its clips with" not in to_markdown(table_from_scores(tmp_path / "s.jsonl")[0])
    old = {name: replace(facts, versions=versions | {"torch": "1.9.0"}) for name, facts in rows[1].scorers.items()}
    append_scores(tmp_path / "mixed.jsonl", [rows[0], replace(rows[1], scorers=old)])
    table, _ = table_from_scores(tmp_path / "mixed.jsonl")
    said = f"r: nano_phonemes scored its clips with torch 1.9.0 (1) and {versions['torch']} (1); "
    assert said.replace("_", r"\_") in to_markdown(table)
    assert any(remark.startswith(said) for remark in table.to_dict()["remarks"])
