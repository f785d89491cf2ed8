"""The numbers of a table."""

from dataclasses import dataclass

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
