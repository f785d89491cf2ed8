"""Clips are scored against their entries; a file that is missing or broken gets a reason."""

import shutil
from dataclasses import replace

import pytest
import torch

from idlora_pl.data.prompts import read_prompts
from idlora_pl.media import read_clip
from idlora_pl.metrics.suite import ClipScorer
from idlora_pl.nano.embedders import nano_scorer
from idlora_pl.report import read_scores
from idlora_pl.scoring import expected_of, score_clip, score_files
from idlora_pl.tools import score, table


@pytest.fixture(scope="module")
def scorer() -> ClipScorer:
    return nano_scorer()


def test_what_is_expected_comes_from_the_entry(nano_data):
    entry = read_prompts(nano_data / "test/prompts.json")[0]
    expected = expected_of(entry)
    assert expected.words in entry["prompt"]
    assert expected.environment in entry["prompt"]
    assert expected.reference.shape == (1, 21120)
    other = expected_of(entry | {"compare_path": None})
    assert not torch.equal(other.reference, expected.reference)
    assert expected_of(entry | {"compare_path": None, "reference_path": None}).reference is None


def test_real_clips_score_well(scorer, nano_data, tmp_path):
    entries = read_prompts(nano_data / "test/prompts.json")
    rows = list(score_files(scorer, entries, None, "real", tmp_path))
    assert [(row.key, row.row) for row in rows] == [("item-0000", "real"), ("item-0001", "real")]
    assert all(row.scores["environment_accuracy"] == 1 for row in rows)
    assert all(row.scores["phoneme_error_rate"] <= 0.25 for row in rows)
    assert all(row.scores["speaker_similarity"] > 0.4 for row in rows)
    assert all(row.scores["lip_sync"] > 0.2 for row in rows)


def test_scores_in_memory_are_scores_of_the_file(scorer, nano_data, tmp_path):
    entry = read_prompts(nano_data / "test/prompts.json")[0]
    (from_file,) = score_files(scorer, [entry], None, "real", tmp_path)
    clip = read_clip(entry["target_path"])
    in_memory = score_clip(scorer, entry, clip, "real", from_file.notes["clip"])
    assert replace(in_memory, notes=from_file.notes) == from_file


def test_a_missing_or_broken_file_is_a_row_with_a_reason(scorer, nano_data, tmp_path):
    entries = read_prompts(nano_data / "test/prompts.json")
    (tmp_path / "item-0001.mp4").write_bytes(b"no video")
    missing, broken = score_files(scorer, entries, tmp_path, "row", tmp_path)
    assert set(missing.reasons.values()) == {"file_missing"}
    assert set(broken.reasons.values()) == {"file_unreadable"}
    assert missing.scores == broken.scores == dict.fromkeys(scorer.names)
    assert broken.notes["clip"] == "item-0001.mp4"


def test_the_tools_score_a_folder_once_and_print_its_table(nano_data, tmp_path, capsys):
    prompts, scores = nano_data / "test/prompts.json", tmp_path / "scores.jsonl"
    (tmp_path / "clips").mkdir()
    for entry in read_prompts(prompts):
        shutil.copy(entry["target_path"], tmp_path / "clips" / f"{entry['output_name']}.mp4")
    arguments = [str(prompts), "--clips", str(tmp_path / "clips"), "--row", "copy", "--scores", str(scores)]
    score(arguments)
    score(arguments)
    assert "0 clips scored, 2 were scored before" in capsys.readouterr().out
    assert len(read_scores(scores)) == 2
    table([str(scores), "--output", str(tmp_path / "out")])
    assert "copy" in capsys.readouterr().out
    assert (tmp_path / "out/table.md").is_file()


def test_scores_of_clips_that_were_replaced_are_not_kept(nano_data, tmp_path):
    prompts, scores, clips = nano_data / "test/prompts.json", tmp_path / "scores.jsonl", tmp_path / "clips"
    first, second = read_prompts(prompts)
    clips.mkdir()
    shutil.copy(first["target_path"], clips / f"{first['output_name']}.mp4")
    arguments = [str(prompts), "--clips", str(clips), "--scores", str(scores)]
    score([*arguments, "--row", "a"])
    assert ["clip_sha256" in row.notes for row in read_scores(scores)] == [True, False]
    kept = scores.read_text()
    shutil.copy(second["target_path"], clips / f"{first['output_name']}.mp4")
    with pytest.raises(ValueError, match=r"item-0000.mp4 is not the clip that .*scores.jsonl holds scores of; remove"):
        score([*arguments, "--row", "a"])
    assert scores.read_text() == kept
    score([*arguments, "--row", "b"])
    assert len(read_scores(scores)) == 4


def test_the_score_tool_says_what_it_lacks(nano_data, tmp_path):
    common = [str(nano_data / "test/prompts.json"), "--row", "a", "--scores", str(tmp_path / "s.jsonl")]
    with pytest.raises(ValueError, match="nowhere is not a folder; give the folder that holds the mp4 files"):
        score([*common, "--clips", str(tmp_path / "nowhere")])
    bare = tmp_path / "bare.json"
    bare.write_text('[{"prompt": "[VISUAL]: A [SPEECH]: aa [SOUNDS]: steady rain", "output_name": "x"}]')
    with pytest.raises(ValueError, match="entry 'x' has no target_path; give --clips FOLDER"):
        score([str(bare), *common[1:]])
