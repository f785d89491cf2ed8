"""Table files: each can be read, and the demo's table finds what the demo writes."""

from pathlib import Path

import pytest
import yaml

from idlora_pl.cli.tools import call_tool
from idlora_pl.report.source import table_from_yaml
from idlora_pl.report.yaml_checks import is_published_study
from idlora_pl.results.row import ScoreRow
from idlora_pl.results.scores_file import append_scores

TABLES = Path(__file__).parents[2] / "experiments/tables"


STUDIES = [path for path in sorted(TABLES.glob("*.yaml")) if is_published_study(path)]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_published_study_can_be_printed_as_a_table(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call_tool("table", [str(path)])
    assert "Quoted from" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(set(TABLES.glob("*.yaml")) - set(STUDIES)), ids=lambda path: path.stem)
def test_a_table_without_runs_has_all_its_rows_missing(path: Path, tmp_path: Path) -> None:
    table, scores = table_from_yaml(path, tmp_path)
    assert scores == []
    missing = [row for row in table.rows if row.quoted is None]
    assert all(table.is_missing(row) and row.command for row in missing)
    assert table.comparisons or table.reproductions


PAPER = Path(__file__).parents[3] / "shared/paper/tables.yaml"


@pytest.mark.skipif(not PAPER.is_file(), reason="needs ../shared/paper/tables.yaml, the published numbers")
@pytest.mark.parametrize("name", ["celebvhq_hard", "celebvhq_easy", "talkvid"])
def test_quoted_rows_are_the_published_numbers(name: str, tmp_path: Path) -> None:
    published = yaml.safe_load(PAPER.read_text())["tables"][name]["rows"]
    table, _ = table_from_yaml(TABLES / f"main_{name}.yaml", tmp_path)
    metrics = [column.metric for column in table.columns]
    quoted = {row.label: [row.quoted[metric] for metric in metrics] for row in table.rows if row.quoted}
    assert quoted == published


def test_the_nano_table_names_the_demo_where_it_is_not_measured(tmp_path: Path) -> None:
    table, _ = table_from_yaml(TABLES / "nano_ablation.yaml", tmp_path)
    assert {row.command for row in table.rows} == {"make demo"}


def test_the_nano_table_is_filled_by_the_rows_of_the_demo(tmp_path: Path) -> None:
    from experiments.demo import METRICS, PAIRED, ROWS

    for number, row in enumerate(ROWS):
        values = dict.fromkeys(METRICS, 0.1 * number)
        append_scores(tmp_path / "demo/scores.jsonl", [ScoreRow(f"{s}1", row, s, 42, values) for s in "ab"])
    table, _ = table_from_yaml(TABLES / "nano_ablation.yaml", tmp_path)
    assert [row.label for row in table.rows] == list(ROWS)
    assert [column.metric for column in table.columns] == list(METRICS)
    assert [(one.a, one.b) for one in table.comparisons[:: len(METRICS)]] == list(PAIRED)
    assert table.cell("negative", "lip_sync").mean == pytest.approx(0.2)
