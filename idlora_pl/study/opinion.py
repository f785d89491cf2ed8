"""Mean opinion scores with intervals over answers, and over items and raters."""

from dataclasses import dataclass
from math import hypot

import numpy as np
from scipy import stats as scipy_stats

from idlora_pl.study.statistics import Ratings


@dataclass(frozen=True)
class Opinion:
    """A mean opinion score.

    Attributes:
        mean: Mean over all answers.
        half_width: Half of the 95 % t-interval over answers, as charts of opinion scores show it; None for n = 1.
        low: Lower end of the 95 % bootstrap interval that draws items and raters; None where there is one of either.
        high: Upper end of it.
        n: Number of answers.
    """

    mean: float
    half_width: float | None
    low: float | None
    high: float | None
    n: int


def opinion(answers: Ratings, *, n_resamples: int = 2000, seed: int = 0) -> Opinion:
    """Summarise opinion scores, value by (item, rater)."""
    values = np.array(list(answers.values()), dtype=np.float64)
    if not len(values):
        raise ValueError("an opinion question has no answers; collect some before analysing it")
    half = None
    if len(values) > 1:
        spread = values.std(ddof=1) / np.sqrt(len(values))
        half = float(scipy_stats.t.ppf(0.975, len(values) - 1) * spread)
    low, high = two_way_interval(answers, n_resamples=n_resamples, seed=seed)
    return Opinion(float(values.mean()), half, low, high, len(values))


def two_way_interval(answers: Ratings, *, n_resamples: int = 2000, seed: int = 0) -> tuple[float | None, float | None]:
    """Return the 95 % bootstrap interval of the mean, drawing items and raters anew (new people, new clips).

    Args:
        answers: Value by (item, rater).
        n_resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        Both ends, or None twice where there is only one item or only one rater.
    """
    items = sorted({item for item, _ in answers}, key=str)
    raters = sorted({rater for _, rater in answers}, key=str)
    if min(len(items), len(raters)) < 2:
        return None, None
    grid = np.array([[answers.get((i, r), np.nan) for r in raters] for i in items], dtype=np.float64)
    filled, held = np.nan_to_num(grid), (~np.isnan(grid)).astype(np.float64)
    rng = np.random.default_rng(seed)
    shape = [(n, np.full(n, 1 / n)) for n in grid.shape]
    means = []
    for _ in range(n_resamples):
        of_items, of_raters = (rng.multinomial(n, share) for n, share in shape)
        count = of_items @ held @ of_raters
        if count:
            means.append(float(of_items @ filled @ of_raters / count))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def gap_p_value(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Return the two-sided p-value of the difference of two means, from published means and 95 % half-widths.

    The normal approximation for independent means; the raters of one study see both methods, so it is a bound for
    readers who have no raw data.

    Example:
        >>> round(gap_p_value((3.05, 0.12), (2.90, 0.13)), 2)
        0.1
    """
    spreads = [half / 1.959964 for _, half in (a, b)]
    if min(spreads) <= 0:
        raise ValueError(f"half-widths must be positive; got {a[1]} and {b[1]}")
    z = abs(a[0] - b[0]) / hypot(*spreads)
    return float(2 * scipy_stats.norm.sf(z))
