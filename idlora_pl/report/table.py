"""A table as data: rows by metrics, each cell a mean with its interval and counts, and comparisons of two rows."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from idlora_pl.results.statistics import Interval, PairedDifference


@dataclass(frozen=True)
class Cell:
    """One number of the table.

    Attributes:
        row: Label of its row.
        metric: Its column.
        interval: The number.
        verified: Whether the anchor of the scorer behind it had passed, for every clip, on the machine that scored;
            true for quoted numbers, which no scorer of ours made.
        n_left_out: Generations without a value of clips that have one with another seed.
        n_speakers: Speakers of the clips with a value.
        seeds: Least and most generations of a clip that have a value; real clips have one.
    """

    row: str
    metric: str
    interval: Interval
    verified: bool = True
    n_left_out: int = 0
    n_speakers: int = 0
    seeds: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Penalised:
    """A mean in which failures count as the worst value of the column.

    Attributes:
        row: Label of its row.
        metric: Its column.
        interval: The mean.
        n_failed: Generations that failed.
    """

    row: str
    metric: str
    interval: Interval
    n_failed: int


@dataclass(frozen=True)
class Comparison:
    """Row ``a`` minus row ``b`` on the same clips.

    Attributes:
        a: Label of a row.
        b: Label of the row that is taken off.
        metric: Their column.
        difference: Over the clips that both rows have a value for.
        penalised: Over all clips, with failures of either row as the column's worst value; None where there are none,
            or no worst value.
        n_failed: Generations of either row that failed.
        n_unpaired: Clips that only one row has a value for (or has failures for, in a column without a worst value),
            although failures count: nothing stands for what is missing there.
    """

    a: str
    b: str
    metric: str
    difference: PairedDifference
    penalised: PairedDifference | None = None
    n_failed: int = 0
    n_unpaired: int = 0


@dataclass(frozen=True)
class Reproduction:
    """One of our numbers beside the published one.

    Attributes:
        row: Our row.
        against: The quoted row.
        metric: The column.
        ours: Our mean with its interval.
        published: The quoted value.
    """

    row: str
    against: str
    metric: str
    ours: Interval
    published: float

    @property
    def difference(self) -> float | None:
        """Ours minus published."""
        return None if self.ours.mean is None else self.ours.mean - self.published

    @property
    def covered(self) -> bool | None:
        """Whether our interval covers the published value; None without an interval."""
        if self.ours.ci_low is None or self.ours.ci_high is None:
            return None
        return self.ours.ci_low <= self.published <= self.ours.ci_high


Direction = Literal["higher", "lower", "near zero"]
_ARROWS = {"higher": "↑", "lower": "↓", "near zero": "→0"}

JSONTable = dict[str, list[dict[str, Any]] | dict[str, float] | list[str]]


@dataclass(frozen=True)
class Column:
    """One metric of a table.

    Attributes:
        metric: Name in ``scores.jsonl``.
        title: What is printed above the column.
        better: Which direction is better.
        digits: Digits after the point.
        worst: What a clip that could not be scored counts as in means with a penalty; None for no such mean.
        margin: The largest difference that still counts as not worse; None where nothing is claimed to be not worse.
        note: What a reader must know of this score, printed under tables that hold it.
    """

    metric: str
    title: str
    better: Direction
    digits: int = 3
    worst: float | None = None
    margin: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse a direction that does not exist, and a margin that is none."""
        if self.better not in get_args(Direction):
            raise ValueError(f"column {self.metric}: better must be higher, lower or near zero; got {self.better!r}")
        if self.margin is not None and self.margin <= 0:
            raise ValueError(f"column {self.metric}: margin must be above 0; got {self.margin}")

    @property
    def sign(self) -> int:
        """+1 where more is better, -1 where less is."""
        return 1 if self.better == "higher" else -1

    @property
    def is_unsigned(self) -> bool:
        """Whether means and differences are of the distance from zero, in which early and late do not cancel."""
        return self.better == "near zero"

    @property
    def heading(self) -> str:
        """The title with an arrow towards better, between bars where signs are left out."""
        return f"|{self.title}| {_ARROWS[self.better]}" if self.is_unsigned else self.clip_heading

    @property
    def clip_heading(self) -> str:
        """The title with an arrow, for values of single clips, which keep their sign."""
        return f"{self.title} {_ARROWS[self.better]}"


COLUMNS = {
    column.metric: column
    for column in (
        Column("speaker_similarity", "speaker similarity", "higher", worst=0.0),
        Column("reference_word_leak", "reference's words leaked", "lower", worst=1.0),
        Column("lip_sync", "lip-sync", "higher", worst=0.0),
        Column("phoneme_error_rate", "phoneme error rate", "lower", worst=1.0, margin=0.01),
        Column("wer", "word error rate", "lower", worst=1.0, margin=0.01),
        Column("environment_accuracy", "environment accuracy", "higher", worst=0.0),
    )
}
"""Columns that are known by name, and that a table made from scores alone shows. Their worst values and margins are
those of the scorers' cards."""


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        label: Its name, which is also the ``row`` of its scores.
        quoted: Published value by metric, for rows that are not ours.
        source: Where the quoted values stand.
        command: What makes the row, printed when its scores are missing.
        against: Label of the quoted row that this row should reproduce.
        method: Of quoted rows, the row of ``scores.jsonl`` that holds the method's own clips.
    """

    label: str
    quoted: dict[str, float] | None = None
    source: str = ""
    command: str = ""
    against: str = ""
    method: str = ""


@dataclass(frozen=True)
class Table:
    """A table that can be printed, drawn and written.

    Attributes:
        columns: Metrics, in order.
        rows: Rows, in order.
        cells: One per row and metric.
        comparisons: Paired differences.
        penalised: Means in which failures count as the column's worst value; only where there are failures.
        reproductions: Our numbers beside published ones.
        seconds: Wall time by phase of the run.
        caption: One line above the table.
        findings: Sentences under the table, see `findings.py`.
        remarks: Sentences about what the rows differ in or lack.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...] = ()
    penalised: tuple[Penalised, ...] = ()
    reproductions: tuple[Reproduction, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    caption: str = ""
    findings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def cell(self, row: str, metric: str) -> Interval:
        """Return the number of one row and metric."""
        return self._cell(row, metric).interval

    def is_verified(self, row: str, metric: str) -> bool:
        """Say whether the number of one row and metric comes from scorers that had proved themselves."""
        return self._cell(row, metric).verified

    def _cell(self, row: str, metric: str) -> Cell:
        return next(cell for cell in self.cells if (cell.row, cell.metric) == (row, metric))

    def is_missing(self, row: Row) -> bool:
        """Tell whether a row has neither scores nor quoted values."""
        return row.quoted is None and all(cell.interval.n_total == 0 for cell in self.cells if cell.row == row.label)

    def to_dict(self) -> JSONTable:
        """Return the content of ``table.json``: ``rows``, ``paired``, ``seconds``, and the other parts if any."""
        more: JSONTable = {"findings": list(self.findings)} if self.findings else {}
        more |= {"remarks": list(self.remarks)} if self.remarks else {}
        if self.penalised:
            more["penalised"] = [
                {"row": one.row, "metric": one.metric, **asdict(one.interval), "n_failed": one.n_failed}
                for one in self.penalised
            ]
        if self.reproductions:
            more["reproductions"] = [_reproduced(one) for one in self.reproductions]
        return {
            "rows": [_flat(cell) for cell in self.cells],
            "paired": [_compared(one) for one in self.comparisons],
            "seconds": self.seconds,
            **more,
        }


def _flat(cell: Cell) -> dict[str, Any]:
    named = {"row": cell.row, "metric": cell.metric, **asdict(cell.interval), "verified": cell.verified}
    return named | {"n_speakers": cell.n_speakers, "seeds_least": cell.seeds[0], "seeds_most": cell.seeds[1]}


def _compared(one: Comparison) -> dict[str, Any]:
    penalised = None if one.penalised is None else asdict(one.penalised)
    named = {"a": one.a, "b": one.b, "metric": one.metric, **asdict(one.difference)}
    return named | {"penalised": penalised, "n_failed": one.n_failed, "n_unpaired": one.n_unpaired}


def _reproduced(one: Reproduction) -> dict[str, Any]:
    named: dict[str, Any] = {"row": one.row, "against": one.against, "metric": one.metric, "published": one.published}
    return {**named, "difference": one.difference, "covered": one.covered, **asdict(one.ours)}
