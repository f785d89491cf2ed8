"""A table as data: rows by metrics, each cell a mean with its interval and counts."""

from dataclasses import asdict, dataclass, field
from typing import Literal

from idlora_pl.stats import Interval, PairedDifference

JSONTable = dict[str, list[dict[str, str | float | int | None]] | dict[str, float] | list[str]]


@dataclass(frozen=True)
class Column:
    """One metric of a table.

    Attributes:
        metric: Name in ``scores.jsonl``.
        title: What is printed above the column.
        better: Which direction is better.
        digits: Digits after the point.
    """

    metric: str
    title: str
    better: Literal["higher", "lower"]
    digits: int = 3

    def __post_init__(self) -> None:
        """Refuse a direction that does not exist."""
        if self.better not in ("higher", "lower"):
            raise ValueError(f"column {self.metric}: better must be higher or lower; got {self.better!r}")

    @property
    def heading(self) -> str:
        """The title with an arrow towards better."""
        return f"{self.title} {'↑' if self.better == 'higher' else '↓'}"


COLUMNS = {
    column.metric: column
    for column in (
        Column("speaker_similarity", "speaker similarity", "higher"),
        Column("lip_sync", "lip-sync", "higher"),
        Column("phoneme_error_rate", "phoneme error rate", "lower"),
        Column("wer", "word error rate", "lower"),
        Column("environment_accuracy", "environment accuracy", "higher"),
    )
}
"""Columns that are known by name, and that a table made from scores alone shows."""


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        label: Its name, which is also the ``row`` of its scores.
        quoted: Published value by metric, for rows that are not ours.
        source: Where the quoted values stand.
        command: What makes the row, printed when its scores are missing.
    """

    label: str
    quoted: dict[str, float] | None = None
    source: str = ""
    command: str = ""


@dataclass(frozen=True)
class Cell:
    """One number of the table."""

    row: str
    metric: str
    interval: Interval


@dataclass(frozen=True)
class Comparison:
    """Row ``a`` minus row ``b`` on the same clips."""

    a: str
    b: str
    metric: str
    difference: PairedDifference


@dataclass(frozen=True)
class Table:
    """A table that can be printed, drawn and written.

    Attributes:
        columns: Metrics, in order.
        rows: Rows, in order.
        cells: One per row and metric.
        comparisons: Paired differences.
        seconds: Wall time by phase of the run.
        caption: One line above the table.
        findings: Sentences under the table, see `findings.py`.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    caption: str = ""
    findings: tuple[str, ...] = ()

    def cell(self, row: str, metric: str) -> Interval:
        """Return the number of one row and metric."""
        return next(cell.interval for cell in self.cells if (cell.row, cell.metric) == (row, metric))

    def is_missing(self, row: Row) -> bool:
        """Tell whether a row has neither scores nor quoted values."""
        return row.quoted is None and all(cell.interval.n_total == 0 for cell in self.cells if cell.row == row.label)

    def to_dict(self) -> JSONTable:
        """Return the content of ``table.json``: ``rows``, ``paired``, ``seconds``, and ``findings`` if any."""
        findings: JSONTable = {"findings": list(self.findings)} if self.findings else {}
        return {
            "rows": [{"row": c.row, "metric": c.metric, **asdict(c.interval)} for c in self.cells],
            "paired": [{"a": c.a, "b": c.b, "metric": c.metric, **asdict(c.difference)} for c in self.comparisons],
            "seconds": self.seconds,
            **findings,
        }
