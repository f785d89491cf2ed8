"""The page of what a step costs says what was measured."""

import json
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.report import RESULTS, main, table

PAGE = Path(__file__).parents[2] / "docs/resources.md"


def test_the_page_is_the_one_that_the_command_writes(tmp_path, monkeypatch):
    copy = tmp_path / "resources.md"
    copy.write_text(PAGE.read_text())
    monkeypatch.setattr(report, "PAGE", copy)
    main()
    assert copy.read_text() == PAGE.read_text()


def test_rates_follow_from_seconds_clips_and_operations():
    setting = {"kind": "training_step", "batch": 4, "frames": 121, "height": 512, "width": 512}
    row = {"name": "a", "setting": setting, "s_per_step": 2.0, "preset": "p", "weights_gib": 1.0, "peak_gib": 2.0}
    row |= {"card": "NVIDIA H200", "date": "2026-11-27 10:00", "torch": "2", "diffusers": "0"}
    failed = row | {"name": "b", "failed": "out of memory"}
    lines = table("x", [row, failed], {"p 121 512 512": {"training": 98.94}})
    assert [line for line in lines if line.startswith("| a")] == ["| a | 4 | 2.00 | 2.00 | 198 | 20 % | 1.0 | 2.0 |"]
    assert not [line for line in lines if line.startswith("| b")]


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/results.jsonl")), ids=lambda path: path.parent.name)
def test_every_result_says_where_and_how_it_was_measured(path):
    for row in map(json.loads, path.read_text().splitlines()):
        assert {"name", "setting", "card", "torch", "commit", "date", "preset"} <= row.keys()
