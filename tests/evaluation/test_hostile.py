"""Damaged and odd files: each becomes a row with a value or a documented reason for every score; nothing is lost."""

import ast
import json
import re
from functools import partial
from pathlib import Path

import pytest

from idlora_pl.benchmark.items import read_prompts
from idlora_pl.cli.tools import call_tool
from idlora_pl.media.reading import read_clip
from idlora_pl.results.scores_file import read_scores
from idlora_pl.scorers.loading import available, load_scorers
from tests.evaluation.hostile import write_hostile

score = partial(call_tool, "score")

ROOT = Path(__file__).parents[2]
CHECKPOINTS = ROOT.parent / "shared/media/checkpoints"
PREFIXES = ("", "reference_", "target_")


def documented() -> set[str]:
    """Codes of the table in docs/scoring.md."""
    table = (ROOT / "docs/scoring.md").read_text().split("## Reason codes")[1].split("\n## ")[0]
    return {
        code
        for line in table.splitlines()
        if line.startswith("| `")
        for code in re.findall(r"`(\w+)`", line.split("|")[1])
    }


def scored_set(nano_data, folder, proofs, scorers, *, every, processes=1):
    """Write the set, score it, and return the names and the rows."""
    entry = read_prompts(nano_data / "test/prompts.json")[0]
    names = write_hostile(read_clip(entry.target, size=(64, 64)), folder / "clips", every=every)
    about = {"speaker": "s", **{name: getattr(entry, name) for name in ("prompt", "environment", "reference_speech")}}
    files = {"reference": str(entry.reference), "compare": str(entry.compare), "target": str(entry.target)}
    items = [{"id": name} | about | files for name in names]
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"format": "idlora-benchmark-1", "items": items}))
    arguments = ["--clips", str(folder / "clips"), "--row", "hostile", "--scores", str(folder / "scores.jsonl")]
    where = ["--weights", str(CHECKPOINTS), "--verified", str(proofs), "--processes", str(processes)]
    score([str(manifest), *arguments, *where, "--scorers", ",".join(scorers)])
    return names, read_scores(folder / "scores.jsonl")


def check(names, rows, scorers, proofs):
    expected = {name for one in load_scorers(scorers, CHECKPOINTS, proofs) for name in one.metric.names}
    assert sorted(row.key for row in rows) == sorted(names)
    codes = documented()
    for row in rows:
        assert row.scores.keys() == expected
        missing = {name for name, value in row.scores.items() if value is None}
        assert missing == row.reasons.keys()
        for reason in row.reasons.values():
            plain = next(reason.removeprefix(p) for p in PREFIXES[::-1] if reason.startswith(p))
            assert {plain, reason} & codes, f"{row.key}: '{reason}' is not in docs/scoring.md"
            assert reason != "scorer_failed", f"{row.key}: {[facts.details for facts in row.scorers.values()]}"


def test_a_part_of_the_hostile_set_gives_a_row_each(nano_data, proofs, tmp_path):
    names, rows = scored_set(nano_data, tmp_path, proofs, ["nano"], every=6)
    assert len(names) >= 40
    check(names, rows, ["nano"], proofs)
    by_name = {row.key: row for row in rows}
    assert set(by_name["never_made"].reasons.values()) == {"file_missing"}
    assert {"file_unreadable", "no_audio", "no_frames"} & {r for row in rows for r in row.reasons.values()}
    assert sum(not row.reasons for row in rows) >= 8


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_hostile_set_gives_a_row_each_with_every_scorer_that_is_here(nano_data, proofs, tmp_path):
    scorers = ["nano", *(available(CHECKPOINTS) if CHECKPOINTS.is_dir() else [])]
    names, rows = scored_set(nano_data, tmp_path, proofs, scorers, every=1, processes=2)
    assert len(names) >= 200
    check(names, rows, scorers, proofs)
    scores = {row.key: row for row in rows}
    whole = scores["fps_25"].scores["speaker_similarity"]
    for name in ("webm", "ts", "flv", "two_tracks", "hz_48000", "channels_6", "only_sound_flac", "\u8bdd\u8bed"):
        assert scores[name].scores["speaker_similarity"] == pytest.approx(whole, abs=0.02), name
    expected = {
        "silent": "silent", "constant_sound": "silent", "no_audio": "no_audio", "gif": "no_audio",
        "sound_nan": "not_finite", "sound_inf": "not_finite", "samples_160": "too_short", "empty": "file_empty",
        "text": "file_unreadable", "zeros": "file_unreadable", "dangling": "file_missing",
    }  # fmt: skip
    assert {name: scores[name].reasons["speaker_similarity"] for name in expected} == expected
    for name in ("no_video", "only_sound_wav", "only_sound_mp3"):
        assert scores[name].reasons["lip_sync"] == "no_frames"
    assert scores["frames_1"].reasons["lip_sync"] == "too_short"


def test_every_reason_in_the_code_is_documented():
    codes = documented()
    used: dict[str, Path] = {}
    for folder in ("metrics", "scorers", "scoring", "nano"):
        for path in (ROOT / "idlora_pl" / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                given = [k.value for k in node.keywords if k.arg == "reason"] + (
                    node.args[:1] if name == "Unscorable" else []
                )
                used |= {
                    one.value: path for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)
                }
    assert {"no_reference", "no_face", "too_short"} <= used.keys()
    undocumented = {code: path.name for code, path in used.items() if code not in codes}
    assert not undocumented
