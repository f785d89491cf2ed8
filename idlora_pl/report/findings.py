"""What a table shows about a claim, in one plain sentence."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from idlora_pl.report.render import interval, number
from idlora_pl.report.table import Table


@dataclass(frozen=True)
class Claim:
    """Row `a` is better than row `b` in a metric.

    Attributes:
        a: The row that is claimed to be better.
        b: The row it is compared with; the pair must be among the table's comparisons.
        metric: Name of a column.
        only_not_worse: Claim no more than that `a` is not worse.
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
    """Say whether a claim holds: the whole interval must lie on its side of zero."""
    pair = (claim.a, claim.b, claim.metric)
    found = next((c.difference for c in table.comparisons if (c.a, c.b, c.metric) == pair), None)
    if found is None:
        raise ValueError(f"the table does not compare {claim.a} with {claim.b} in {claim.metric}; add the pair")
    column = next(column for column in table.columns if column.metric == claim.metric)
    relation = "is not worse than" if claim.only_not_worse else "is better than"
    said = f"{claim.a} {relation} {claim.b} in {column.title}"
    if found.diff is None or found.ci_low is None or found.ci_high is None:
        return f"not measured: {said} (n = {found.n})"
    sign = 1 if column.better == "higher" else -1
    low, high = sorted((sign * found.ci_low, sign * found.ci_high))
    difference = number(found.diff, column.digits, sign=True)
    shown = f"{difference} {interval(found.ci_low, found.ci_high, column.digits, sign=True)}, n = {found.n}"
    if high < 0:
        verdict = "does not hold, the opposite was measured"
    elif low > 0 or claim.only_not_worse:
        verdict = "holds" if low > 0 else "no difference was measured"
    else:
        verdict = "not shown, the interval contains zero"
    return f"{verdict}: {said} ({shown})"
