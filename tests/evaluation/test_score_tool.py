"""`idlora score`: a folder once, what is missing named, and the same scores however the work is shared out."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from idlora_pl.benchmark.items import read_prompts
from idlora_pl.cli.tools import call_tool
from idlora_pl.media.reading import read_clip
from idlora_pl.results.row import ScoreRow
from idlora_pl.results.scores_file import append_scores, read_scores
from idlora_pl.scorers.card import Card
from idlora_pl.scorers.registry import CARDS
from idlora_pl.scorers.scores import Score
from idlora_pl.scorers.weights import MissingWeights, WeightFile

score = partial(call_tool, "score")
table = partial(call_tool, "table")


@pytest.fixture
def clips(nano_data, tmp_path):
    """A folder with the real clips under the names of their items, with different endings."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for entry, ending in zip(read_prompts(nano_data / "test/prompts.json"), ("mp4", "MOV"), strict=True):
        shutil.copy(entry.target, folder / f"{entry.id}.{ending}")
    return folder


@pytest.fixture
def arguments(nano_data, clips, proofs, tmp_path):
    common = [str(nano_data / "test/prompts.json"), "--clips", str(clips), "--scores", str(tmp_path / "scores.jsonl")]
    return [*common, "--verified", str(proofs)]


def values(path: Path) -> dict[tuple[str, str], dict[str, float | None]]:
    return {(row.row, row.key): row.scores for row in read_scores(path)}


def test_a_folder_is_scored_once_and_tabulated(arguments, tmp_path, capsys):
    score([*arguments, "--row", "copy"])
    score([*arguments, "--row", "copy"])
    assert "0 clips scored, 2 were scored before" in capsys.readouterr().out
    scores = tmp_path / "scores.jsonl"
    assert len(scores.read_text().splitlines()) == 10
    rows = read_scores(scores)
    assert [row.key for row in rows] == ["item-0000", "item-0001"]
    assert all(row.is_verified(name) for row in rows for name in row.scores)
    assert {len(facts.weights) for facts in rows[0].scorers.values()} == {64}
    assert rows[0].scorers["nano_speaker"].versions["torch"]
    assert {"clip", "clip_sha256", "item_sha256", "prompt", "reference", "target"} <= rows[0].notes.keys()
    table([str(scores), "--output", str(tmp_path / "out")])
    assert "copy" in capsys.readouterr().out
    assert (tmp_path / "out/table.md").is_file()


def test_scoring_goes_on_where_it_stopped_for_each_scorer(arguments, tmp_path, capsys):
    score([*arguments, "--row", "a", "--scorers", "nano_phonemes"])
    scores = tmp_path / "scores.jsonl"
    lines = scores.read_text().splitlines()
    scores.write_text(lines[0] + "\n" + lines[1][:50])  # killed within the second line
    with pytest.warns(UserWarning, match="cut off"):
        score([*arguments, "--row", "a", "--scorers", "nano_phonemes,nano_environment"])
    assert scores.read_text().splitlines()[0] == lines[0]
    assert len(scores.read_text().splitlines()) == 4
    whole = values(scores)
    scores.unlink()
    score([*arguments, "--row", "a", "--scorers", "nano_environment,nano_phonemes"])
    assert values(scores) == whole


@pytest.mark.slow
def test_order_and_number_of_processes_do_not_matter(arguments, nano_data, tmp_path):
    score([*arguments, "--row", "one"])
    content = json.loads((nano_data / "test/prompts.json").read_text())
    backwards = nano_data / "test/backwards.json"
    backwards.write_text(json.dumps(content[::-1]))
    score([str(backwards), *arguments[1:], "--row", "one", "--scores", str(tmp_path / "backwards.jsonl")])
    score([*arguments, "--row", "one", "--processes", "2", "--scores", str(tmp_path / "two.jsonl")])
    expected = values(tmp_path / "scores.jsonl")
    assert len(expected) == 2
    assert values(tmp_path / "backwards.jsonl") == values(tmp_path / "two.jsonl") == expected


def test_missing_and_broken_files_are_rows_with_a_reason(arguments, clips, tmp_path, capsys):
    (clips / "item-0000.mp4").write_bytes(b"no video")
    (clips / "item-0001.MOV").unlink()
    score([*arguments, "--row", "a"])
    assert "scores without a value: file_missing 8, file_unreadable 8" in capsys.readouterr().out
    broken, missing = read_scores(tmp_path / "scores.jsonl")
    assert (set(broken.reasons.values()), set(missing.reasons.values())) == ({"file_unreadable"}, {"file_missing"})
    assert "clip_sha256" in broken.notes
    (clips / "item-0001.MOV").write_bytes(b"")  # a clip that has appeared is scored
    score([*arguments, "--row", "a"])
    assert set(read_scores(tmp_path / "scores.jsonl")[1].reasons.values()) == {"file_empty"}


def test_scores_of_what_was_replaced_are_not_kept(arguments, clips, nano_data, tmp_path):
    score([*arguments, "--row", "a"])
    kept = (tmp_path / "scores.jsonl").read_text()
    shutil.copy(clips / "item-0001.MOV", clips / "item-0000.mp4")
    with pytest.raises(
        ValueError, match=r"item-0000.mp4 is not the clip that .*scores.jsonl holds scores of; score row"
    ):
        score([*arguments, "--row", "a"])
    assert (tmp_path / "scores.jsonl").read_text() == kept
    score([*arguments, "--row", "b"])
    score([*arguments, "--row", "a", "--again", "all"])
    rows = read_scores(tmp_path / "scores.jsonl")
    assert [(row.row, row.key) for row in rows][:2] == [("b", "item-0000"), ("b", "item-0001")]
    assert rows[0].scores == rows[2].scores
    content = json.loads((nano_data / "test/prompts.json").read_text())
    content[0]["prompt"] = content[0]["prompt"].replace("[SPEECH]: ", "[SPEECH]: oo ")
    (nano_data / "test/changed.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="item 'item-0000' has another text, reference or target than when"):
        score([str(nano_data / "test/changed.json"), *arguments[1:], "--row", "a"])


def test_scores_with_other_weights_are_not_mixed(arguments, tmp_path):
    score([*arguments, "--row", "a"])
    path = tmp_path / "scores.jsonl"
    weights = read_scores(path)[0].scorers["nano_speaker"].weights
    first, *others = path.read_text().splitlines()
    path.write_text(first.replace(weights, "0" * 64) + "\n")
    with pytest.raises(
        ValueError, match=f"scores of nano_speaker for row 'a' with weights 0{{64}}, these are {weights}"
    ):
        score([*arguments, "--row", "a", "--scorers", "nano_speaker"])


def test_lines_of_older_versions_count_as_scored(arguments, tmp_path, capsys):
    score([*arguments, "--row", "a"])
    path = tmp_path / "scores.jsonl"
    flat = [
        {"key": row.key, "row": "a", "speaker": row.speaker, "seed": row.seed, "reasons": row.reasons, **row.scores}
        for row in read_scores(path)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in flat))
    score([*arguments, "--row", "a"])
    assert "0 clips scored, 2 were scored before" in capsys.readouterr().out


def test_a_scorer_without_its_weights_refuses_before_anything_is_scored(arguments, tmp_path, monkeypatch, capsys):
    def build(_weights):
        raise AssertionError("a scorer without weights was built")

    file = WeightFile("speaker/net.pt", "ab" * 32, "curl -o WEIGHTS/speaker/net.pt https://example.org/net.pt", "MIT")
    bare = Card("bare", "Nothing.", (Score("bare_score", "bare", "higher"),), (file,), build)
    monkeypatch.setitem(CARDS, "bare", bare)
    with pytest.raises(SystemExit) as stopped:
        score([*arguments, "--row", "a", "--scorers", "nano,bare", "--weights", str(tmp_path)])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert f"curl -o {tmp_path}/speaker/net.pt https://example.org/net.pt" in said
    assert not (tmp_path / "scores.jsonl").exists()
    with pytest.raises(MissingWeights):
        bare.load(tmp_path)


def test_a_scorer_that_fails_is_named_kept_and_tried_again(arguments, tmp_path, monkeypatch, capsys):
    card = CARDS["nano_phonemes"]
    fails = [True]

    def build(weights):
        metric = card.build(weights)
        score_clip = metric.score_clip

        def sometimes(clip, expected):
            if fails[0]:
                raise RuntimeError("a kernel is larger than its input")
            return score_clip(clip, expected)

        metric.score_clip = sometimes
        return metric

    monkeypatch.setitem(CARDS, "flaky", Card("flaky", "Fails.", card.scores, (), build))
    with pytest.raises(SystemExit, match="scorers failed at 2 scores, which is a fault of ours"):
        score([*arguments, "--row", "a", "--scorers", "flaky,nano_environment"])
    row = read_scores(tmp_path / "scores.jsonl")[0]
    assert row.reasons == {"phoneme_error_rate": "scorer_failed"}
    assert row.scorers["flaky"].details["error"] == "RuntimeError: a kernel is larger than its input"
    assert row.scores["environment_accuracy"] == 1.0
    assert "item-0000: phoneme_error_rate: RuntimeError: a kernel is larger" in capsys.readouterr().out
    fails[0] = False
    score([*arguments, "--row", "a", "--scorers", "flaky,nano_environment"])
    assert all(row.scores["phoneme_error_rate"] is not None for row in read_scores(tmp_path / "scores.jsonl"))


def test_the_method_of_a_manifest_is_a_row(nano_manifest, proofs, tmp_path):
    common = ["--scores", str(tmp_path / "s.jsonl"), "--verified", str(proofs)]
    score([str(nano_manifest), "--row", "real", "--method", "real", *common])
    rows = read_scores(tmp_path / "s.jsonl")
    assert [row.key for row in rows] == ["item-0000", "item-0001", "item-0002"]
    assert set(rows[2].reasons.values()) == {"clip_not_given"}
    assert rows[0].scores["environment_accuracy"] == 1.0
    assert (rows[0].seed, rows[0].notes["split"]) == (None, "nano")
    with pytest.raises(ValueError, match="the manifest names no clip of method 'kling'; it has real"):
        score([str(nano_manifest), "--row", "kling", "--method", "kling", *common])


def test_scores_in_memory_are_scores_of_the_file(scorers, nano_data, tmp_path):
    from idlora_pl.evaluation.clips import clip_sources
    from idlora_pl.evaluation.rows import score_clip, score_source

    entries = read_prompts(nano_data / "test/prompts.json")
    source = clip_sources(entries)["item-0000"]
    from_file = score_source(scorers, entries[0], source, "real", tmp_path)
    in_memory = score_clip(scorers, entries[0], read_clip(source.path), "real", notes={})
    assert in_memory.scores == from_file.scores
    assert from_file.scores["phoneme_error_rate"] <= 0.25
    assert from_file.scores["speaker_similarity"] > 0.4


def test_the_tool_says_what_it_lacks(nano_data, clips, tmp_path):
    common = [str(nano_data / "test/prompts.json"), "--row", "a", "--scores", str(tmp_path / "s.jsonl")]
    with pytest.raises(ValueError, match="nowhere is not a folder; give the folder that holds the clips"):
        score([*common, "--clips", str(tmp_path / "nowhere")])
    with pytest.raises(ValueError, match="scorer must be one of .*; got 'spk'"):
        score([*common, "--scorers", "spk"])
    with pytest.raises(ValueError, match="--method takes the clips that the manifest names; leave out --clips"):
        score([*common, "--method", "real", "--clips", str(clips)])
    with pytest.raises(ValueError, match="--bound vae writes the clips that it scores; give --clips FOLDER"):
        score([*common, "--bound", "vae"])
    shutil.copy(clips / "item-0000.mp4", clips / "item-0000.webm")
    with pytest.raises(ValueError, match=r"holds item-0000.mp4 and item-0000.webm for item 'item-0000'; leave one"):
        score([*common, "--clips", str(clips)])
    bare = tmp_path / "bare.json"
    bare.write_text('[{"prompt": "[VISUAL]: A [SPEECH]: aa [SOUNDS]: steady rain", "output_name": "x"}]')
    with pytest.raises(ValueError, match="item 'x' has no target; give --clips FOLDER"):
        score([str(bare), *common[1:], "--scorers", "nano"])
    append_scores(tmp_path / "s.jsonl", [ScoreRow("item-0000", "a", "s", 42, {"lip_sync": 0.5})])
    (clips / "item-0000.webm").unlink()
    with pytest.raises(ValueError, match="has some of the scores of nano_lip_sync but not all; score the row anew"):
        score([*common, "--clips", str(clips)])
