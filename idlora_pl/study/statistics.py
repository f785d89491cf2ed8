"""Counts and agreement of raters: sign tests and Krippendorff's alpha; and means and shares of their answers.

These have one interval for both: over items and raters, as if both were drawn anew.
Letters: U items (units), R raters, n answers.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy import stats as scipy_stats

from idlora_pl.results.intervals import Ends, Spread, share_interval, share_p_value, student_interval

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


FEWEST = 3
"""With fewer items or raters, their spread is hardly seen, and the interval takes one degree of freedom."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Opinion:
    """A mean opinion score.

    Attributes:
        mean: Mean over all answers.
        low: Lower end of the 95 % interval over items and raters; None where there is one of either, where no spread
            is seen, and for published means.
        high: Upper end of it.
        n: Number of answers.
        n_items: Items of these answers; 0 for published means.
        n_raters: Raters of them; 0 for published means.
        published_half_width: Half of the interval over answers that was published; None for our own.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    n_items: int = 0
    n_raters: int = 0
    published_half_width: float | None = None


def opinion(answers: Ratings) -> Opinion:
    """Summarise opinion scores, value by (item, rater)."""
    if not answers:
        raise ValueError("an opinion question has no answers; collect some before analysing it")
    mean = float(np.mean(list(answers.values())))
    low, high = two_way_interval(answers) or (None, None)
    return Opinion(mean, low, high, len(answers), *n_of_each(answers))


def n_of_each(answers: Ratings) -> tuple[int, int]:
    """Return the numbers of items and of raters of some answers."""
    return len({item for item, _ in answers}), len({rater for _, rater in answers})


def two_way_spread(answers: Ratings) -> Spread | None:
    """Return mean and variance over items and raters, value by (item, rater); None with one item or one rater.

    The variance of the items' sums plus that of the raters' sums counts what is left of each answer twice, so that is
    taken off; in a full grid this is the analysis of variance of two crossed random effects. It is no less than either
    of the two. Degrees of freedom are Satterthwaite's, and 1 with fewer than `FEWEST` items or raters.
    """
    if min(n_of_each(answers)) < 2:
        return None
    values = np.array(list(answers.values()), dtype=np.float64)
    items, raters = (
        np.unique(np.array([str(place[side]) for place in answers]), return_inverse=True)[1] for side in (0, 1)
    )
    n, deviations = len(values), values - values.mean()
    (of_items, n_items, h_items), (of_raters, n_raters, h_raters) = (
        _one_way(deviations, side) for side in (items, raters)
    )
    left, df_left = _left_over(values, items, raters)
    variance = max(of_items, of_raters, of_items + of_raters - left)
    parts = ((of_items, n_items - 1), (of_raters, n_raters - 1), (left, df_left))
    squared = sum(part**2 / df for part, df in parts if df > 0)
    df = variance**2 / squared if squared > 0 and min(n_items, n_raters) >= FEWEST else 1.0
    return Spread(float(values.mean()), variance, max(1.0, df), n, 1 / (h_items + h_raters))


def _one_way(deviations: Floats, groups: NDArray[np.int64]) -> tuple[float, int, float]:
    """Return the variance of the mean over groups, their number, and the sum of their squared shares of answers."""
    sums, sizes = np.bincount(groups, weights=deviations), np.bincount(groups)
    k, n = len(sums), len(deviations)
    return float((sums**2).sum()) / n**2 * k / (k - 1), k, float((sizes**2).sum()) / n**2


def _left_over(values: Floats, items: NDArray[np.int64], raters: NDArray[np.int64]) -> tuple[float, int]:
    """Return the variance of the mean from what items and raters do not explain, with its degrees of freedom."""
    design = np.concatenate([np.eye(items.max() + 1)[items], np.eye(raters.max() + 1)[raters]], axis=1)
    fitted, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    df = len(values) - int(rank)
    if df <= 0:
        return 0.0, 0
    return float(((values - design @ fitted) ** 2).sum()) / df / len(values), df


def two_way_interval(answers: Ratings, *, are_shares: bool = False) -> Ends | None:
    """Return the 95 % interval of the mean over items and raters (new people, new clips).

    Args:
        answers: Value by (item, rater); 1 for won and 0 for lost where they are shares.
        are_shares: Whether the mean is a share, which gets an exact interval for its effective number of answers.

    Returns:
        Both ends; None where there is only one item or one rater, and where no spread is seen (except for shares).
    """
    spread = two_way_spread(answers)
    if spread is None:
        return None
    return share_interval(spread) if are_shares else student_interval(spread)


def two_way_p_value(answers: Ratings, *, are_shares: bool = False) -> float | None:
    """Return the two-sided p-value, over items and raters, that a mean is 0, or that a share is one half.

    It is below 0.05 where `two_way_interval` leaves that value out; None where there is no interval.
    """
    spread = two_way_spread(answers)
    if spread is None:
        return None
    if are_shares:
        return share_p_value(spread)
    if student_interval(spread) is None:
        return None
    return 2 * float(special.stdtr(spread.df, -abs(spread.mean) / spread.variance**0.5))


def doubt_of_few(counts: list[tuple[int, int]]) -> list[str]:
    """Return a sentence where intervals stand on too few items or raters, given their numbers (see `n_of_each`).

    Example:
        >>> doubt_of_few([(35, 9)]), len(doubt_of_few([(35, 2), (1, 9)]))
        ([], 2)
    """
    said: list[str] = []
    if few := sorted({pair for pair in counts if 1 < min(pair) < FEWEST}):
        shown = ", ".join(f"{items} items and {raters} raters" for items, raters in few)
        said.append(f"Intervals over {shown} are wide: two of a kind hardly show how far others would differ.")
    if any(min(pair) == 1 for pair in counts):
        said.append(
            "With one item or one rater there is no interval and no p: nothing shows how far others would differ."
        )
    return said
