"""From ``scores.jsonl`` to tables on screen, in files and on a page with playable clips."""

from idlora_pl.report.build import build_table
from idlora_pl.report.findings import Claim, with_findings
from idlora_pl.report.formats import to_markdown
from idlora_pl.report.source import read_table, table_from_scores, table_from_yaml
from idlora_pl.report.table import COLUMNS, Column, Row, Table
from idlora_pl.report.text import show, to_rich
from idlora_pl.report.write import write_report
from idlora_pl.results.row import ScorerFacts, ScoreRow
from idlora_pl.results.scores_file import append_scores, located, read_scores

__all__ = [
    "COLUMNS",
    "Claim",
    "Column",
    "Row",
    "ScoreRow",
    "ScorerFacts",
    "Table",
    "append_scores",
    "build_table",
    "located",
    "read_scores",
    "read_table",
    "show",
    "table_from_scores",
    "table_from_yaml",
    "to_markdown",
    "to_rich",
    "with_findings",
    "write_report",
]
