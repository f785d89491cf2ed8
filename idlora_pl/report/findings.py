"""What a table shows about a claim, in one plain sentence.

A claim holds only where everything agrees: at least `TOO_FEW` speakers, the 95 % interval on its side of zero, the
sign-flip test over speakers at 0.05, and both once more with failures counted, where clips have failed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from idlora_pl.report.table import Column, Comparison, Table
from idlora_pl.report.text import TOO_FEW, difference_text, p_text, penalty_text
from idlora_pl.results.statistics import PairedDifference

ALPHA = 0.05


@dataclass(frozen=True)
class Claim:
    """Row `a` is better than row `b` in a metric.

    Attributes:
        a: The row that is claimed to be better.
        b: The row it is compared with; the pair must be among the table's comparisons.
        metric: Name of a column.
        only_not_worse: Claim no more than that `a` is not worse, by more than the margin of the column.
    """

    a: str
    b: str
    metric: str
    only_not_worse: bool = False


def with_findings(table: Table, claims: Iterable[Claim]) -> Table:
    """Return the table with one sentence a claim under it.

    Raises:
        ValueError: A claim names a pair or a metric that the table does not compare.
    """
    return replace(table, findings=tuple(finding(table, claim) for claim in claims))


def finding(table: Table, claim: Claim) -> str:
    """Say whether a claim holds, with the numbers behind it."""
    pair = (claim.a, claim.b, claim.metric)
    found = next((c for c in table.comparisons if (c.a, c.b, c.metric) == pair), None)
    if found is None:
        raise ValueError(f"the table does not compare {claim.a} with {claim.b} in {claim.metric}; add the pair")
    column = next(column for column in table.columns if column.metric == claim.metric)
    relation = "is not worse than" if claim.only_not_worse else "is better than"
    said = f"{claim.a} {relation} {claim.b} in {column.title}"
    if claim.only_not_worse and column.margin is not None:
        said += f" by more than {column.margin:g}"
    verdict = _undecided(found, column, claim) or _verdict(found, column, claim)
    return f"{verdict}: {said} ({_shown(found, column)})"


def _undecided(found: Comparison, column: Column, claim: Claim) -> str:
    """Say why nothing can be said; "" where something can."""
    if found.difference.diff is None:
        return "not measured"
    if claim.only_not_worse and column.margin is None:
        return f"not judged, no margin is named for {column.title}"
    if found.difference.n_speakers < TOO_FEW:
        return f"not decided, {TOO_FEW} speakers are needed"
    if found.n_unpaired:
        return f"not decided, only one row has a value of {found.n_unpaired} clips, and nothing stands for the other"
    return ""


def _verdict(found: Comparison, column: Column, claim: Claim) -> str:
    counted = [found.difference, *([] if found.penalised is None else [found.penalised])]
    margin = column.margin if claim.only_not_worse else None
    sides = {_side(one, column, margin or 0.0) for one in counted}
    if sides == {1}:
        return "holds"
    if sides == {-1}:
        return "does not hold, " + ("it is worse by more than that" if margin else "the opposite was measured")
    if len(sides) > 1:
        return "not shown, without and with failures counted it is not the same"
    line = "the margin" if margin else "zero"
    if any(_side(one, column, margin or 0.0, by_interval=True) == 0 for one in counted):
        return f"not shown, the interval contains {line}"
    return f"not shown, the interval does not contain {line}, but p is above {ALPHA}"


def _side(found: PairedDifference, column: Column, margin: float, *, by_interval: bool = False) -> int:
    """Return 1 where `a` is better than `margin` worse, -1 where it is not, 0 where interval or p leave it open.

    Where all speakers differ by the same there is no interval, and the difference itself stands for it.
    """
    if found.diff is None:
        return 0
    ends = (found.diff,) if found.ci_low is None or found.ci_high is None else (found.ci_low, found.ci_high)
    low, high = min(column.sign * end for end in ends), max(column.sign * end for end in ends)
    p = found.p_margin if margin else found.p
    if not by_interval and (p is None or p > ALPHA):
        return 0
    return int(low > -margin) - int(high < -margin)


def _shown(found: Comparison, column: Column) -> str:
    """Return the numbers behind a verdict."""
    one = found.difference
    parts = [difference_text(one, column), p_text(one.p)]
    parts += [f"n = {one.n} clips of {one.n_speakers} speakers", f"{one.n_dropped} dropped" if one.n_dropped else ""]
    if found.penalised is not None:
        parts.append(
            f"{penalty_text(found, column)}: {difference_text(found.penalised, column)}, n = {found.penalised.n}"
        )
    return ", ".join(part for part in parts if part)
