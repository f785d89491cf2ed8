"""Counts and agreement of raters: sign tests and Krippendorff's alpha."""

from collections.abc import Hashable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

Level = Literal["nominal", "interval"]
Ratings = Mapping[tuple[Any, Any], float]
"""Value by (item, rater)."""


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
