"""Preferences and agreement of raters: shares, sign tests, Krippendorff's alpha.

Letters: U items (units).
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

Level = Literal["nominal", "interval"]
Ratings = Mapping[tuple[Any, Any], float]
"""Value by (item, rater)."""


@dataclass(frozen=True)
class Preference:
    """How often one of two methods was preferred.

    Attributes:
        wins: Answers for the first method.
        ties: Answers for neither.
        losses: Answers for the second method.
        p: Two-sided p-value of the sign test, ties left out; None when there are ties alone.
        p_items: The same test over items, each of which counts once, by its majority; None without item answers.
        low: Lower end of the 95 % interval of the share of wins among wins and losses (Wilson); None without any.
        high: Upper end of it.
    """

    wins: int
    ties: int
    losses: int
    p: float | None
    p_items: float | None
    low: float | None
    high: float | None

    @property
    def n(self) -> int:
        """Number of answers."""
        return self.wins + self.ties + self.losses

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of wins, ties and losses."""
        return self.wins / self.n, self.ties / self.n, self.losses / self.n


def sign_test(wins: int, losses: int) -> float | None:
    """Return the two-sided p-value that wins and losses are equally likely; None when there is neither.

    Example:
        >>> sign_test(5, 0)
        0.0625
    """
    if min(wins, losses) < 0:
        raise ValueError(f"wins and losses are counts; got {wins} and {losses}")
    if wins + losses == 0:
        return None
    return float(scipy_stats.binomtest(wins, wins + losses).pvalue)


def preference(wins: int, ties: int, losses: int, by_item: Sequence[int] | None = None) -> Preference:
    """Summarise answers of an A/B test.

    Answers of several raters to one item are not independent, so `p` is too small where raters agree; `p_items` is
    the honest test for a claim about new items.

    Args:
        wins: Answers for the first method.
        ties: Answers for neither.
        losses: Answers for the second method.
        by_item: (U,) wins minus losses of each item.
    """
    if wins + ties + losses == 0:
        raise ValueError("an A/B question has no answers; collect some before analysing it")
    low = high = None
    if wins + losses:
        ends = scipy_stats.binomtest(wins, wins + losses).proportion_ci(method="wilson")
        low, high = float(ends.low), float(ends.high)
    p_items = None if by_item is None else sign_test(sum(x > 0 for x in by_item), sum(x < 0 for x in by_item))
    return Preference(wins, ties, losses, sign_test(wins, losses), p_items, low, high)


def krippendorff_alpha(answers: Ratings, level: Level) -> float | None:
    """Return Krippendorff's alpha: 1 is full agreement, 0 what chance gives (Krippendorff 2011, "Computing alpha").

    Args:
        answers: Value by (item, rater); items with fewer than two answers carry no information.
        level: "nominal" for choices, "interval" for opinion scores.

    Returns:
        None when no item has two answers, or every answer is the same.

    Example:
        >>> krippendorff_alpha({("a", 1): 0, ("a", 2): 0, ("b", 1): 1, ("b", 2): 1}, "nominal")
        1.0
    """
    by_item: dict[Hashable, list[float]] = {}
    for (item, _), value in answers.items():
        by_item.setdefault(item, []).append(value)
    units = [values for values in by_item.values() if len(values) > 1]
    pooled = np.array([value for values in units for value in values], dtype=np.float64)
    if not len(pooled):
        return None
    observed = sum(_disagreement(np.array(values, dtype=np.float64), level) / (len(values) - 1) for values in units)
    expected = _disagreement(pooled, level) / (len(pooled) - 1)
    return None if expected == 0 else float(1 - observed / expected)


def _disagreement(values: NDArray[np.float64], level: Level) -> float:
    """Sum the squared difference (or the inequality) over all ordered pairs."""
    gaps = values[:, None] - values[None, :]
    return float(((gaps != 0) if level == "nominal" else gaps**2).sum())


def majority_differences(answers: Ratings) -> dict[Hashable, int]:
    """Return wins minus losses of each item, for answers of +1 (first method), 0 (tie), -1 (second)."""
    summed: dict[Hashable, int] = {}
    for (item, _), value in answers.items():
        summed[item] = summed.get(item, 0) + int(value)
    return summed
