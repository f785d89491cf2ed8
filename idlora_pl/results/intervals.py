"""Intervals of means whose values come in clusters: Student's t with a robust variance, and exact ones for shares.

Letters: K clusters (speakers), n values.

The variance is that of Bell and McCaffrey (2002, CR2) with their degrees of freedom, computed for values that agree
within a cluster. It covers as often as it says down to two speakers where speakers scatter normally, which a bootstrap
does not (`python experiments/simulate_intervals.py`, docs/scoring.md). Shares, of values that are all 0 or 1, have the
exact interval of Clopper and Pearson for an effective number of values (Korn and Graubard 1998).

Means of resampled speakers have expanded percentile intervals (Hesterberg, "What Teachers Should Know About the
Bootstrap", 2015): plain percentiles of K resampled speakers are too narrow by sqrt((K - 1) / K), and by what a t
quantile is above a normal one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
N_RESAMPLES = 10_000
_CHUNK = 1_000


def cluster_sums(values: Sequence[float], clusters: Sequence[str]) -> tuple[Floats, Floats]:
    """Return the sum and the number of values of each cluster, each (K,), clusters in sorted order."""
    if len(values) != len(clusters):
        raise ValueError(f"values and clusters must be of one length; got {len(values)} and {len(clusters)}")
    numbers = np.asarray(values, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("values must be finite; write a missing score as None")
    names, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.bincount(index, weights=numbers, minlength=len(names)).astype(np.float64)
    return sums, np.bincount(index, minlength=len(names)).astype(np.float64)


def bootstrap_means(sums: Floats, counts: Floats, *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> Floats:
    """Draw K clusters with replacement, n_resamples times, and return the mean over their clips each time.

    Args:
        sums: (K,) sum of the values of each cluster.
        counts: (K,) number of values of each cluster.
        n_resamples: Number of resamples.
        seed: Seed of the generator; the same seed gives the same result.

    Returns:
        (n_resamples,) means.
    """
    rng = np.random.default_rng(seed)
    n_clusters = len(sums)
    share = np.full(n_clusters, 1.0 / n_clusters)
    draws = (rng.multinomial(n_clusters, share, size=size) for size in chunks(n_resamples))
    return np.concatenate([draw @ sums / (draw @ counts) for draw in draws])


def expanded_tail(n_clusters: int, level: float = 0.95) -> float:
    """Return the share of resamples that lies beyond either end of an interval over K >= 2 clusters.

    That is Phi(-sqrt(K / (K - 1)) t), t the Student quantile with K - 1 degrees of freedom; (1 - level) / 2 for many.

    Example:
        >>> round(expanded_tail(8), 4), round(expanded_tail(100_000), 4)
        (0.0057, 0.025)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1; got {level}")
    if n_clusters < 2:
        raise ValueError(f"an interval needs at least two clusters; got {n_clusters}")
    student = special.stdtrit(n_clusters - 1, (1 + level) / 2)
    return float(special.ndtr(-np.sqrt(n_clusters / (n_clusters - 1)) * student))


def expanded_interval(means: Floats, n_clusters: int, level: float = 0.95) -> tuple[float, float]:
    """Return both ends of the interval that resampled means (R,) of K clusters give."""
    tail = expanded_tail(n_clusters, level)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def chunks(total: int) -> Iterator[int]:
    """Split a number of resamples into chunks that bound the memory."""
    for start in range(0, total, _CHUNK):
        yield min(_CHUNK, total - start)


_ROUNDING = 1e-9
"""Scatter of the clusters below this part of their size is the rounding of equal values."""

Ends = tuple[float, float]


@dataclass(frozen=True)
class Spread:
    """A mean and how far it scatters.

    Attributes:
        mean: The mean over all values.
        variance: Of the mean; 0 where all clusters are alike.
        df: Degrees of freedom of that variance.
        n: Number of values.
        n_least: As how many independent values they count if those of a cluster are all equal.
    """

    mean: float
    variance: float
    df: float
    n: int
    n_least: float


def cluster_spread(sums: Floats, counts: Floats) -> Spread:
    """Return the spread of the mean over the values of K >= 2 clusters, from their sums (K,) and counts (K,).

    Example:
        >>> found = cluster_spread(np.array([0.0, 1.0, 2.0]), np.ones(3))
        >>> round(found.mean, 3), round(found.variance, 3), round(found.df, 3)
        (1.0, 0.333, 2.0)
    """
    if len(sums) < 2:
        raise ValueError(f"an interval needs at least two clusters; got {len(sums)}")
    total = float(counts.sum())
    mean, share = float(sums.sum()) / total, counts / total
    residuals = sums - mean * counts
    if np.abs(residuals / counts).max() <= _ROUNDING * np.abs(sums / counts).max():
        residuals = np.zeros_like(residuals)
    variance = float((residuals**2 / (1 - share)).sum()) / total**2
    n_least = float(total**2 / (counts**2).sum())
    return Spread(mean, variance, _degrees_of_freedom(counts, share), round(total), n_least)


def _degrees_of_freedom(counts: Floats, share: Floats) -> float:
    """Return tr(G)^2 / tr(G^2) of the adjusted residuals' covariance G = D - u w' - w u' + s u u'."""
    adjust = 1 / np.sqrt(1 - share)
    u, w, s = adjust * share, adjust * counts**2, float((counts**2).sum())
    diagonal = adjust**2 * counts**2
    rest = -2 * u * w + s * u**2
    uu, uw, ww = float(u @ u), float(u @ w), float(w @ w)
    squared = float(diagonal @ diagonal) + 2 * float(diagonal @ rest) + 2 * (uu * ww + uw**2)
    squared += s**2 * uu**2 - 4 * s * uu * uw
    return float((diagonal + rest).sum()) ** 2 / squared


def student_interval(spread: Spread, level: float = 0.95) -> Ends | None:
    """Return mean +- t times the standard error; None where no spread was seen, which is not the same as none."""
    reach = student_quantile(spread.df, level) * spread.variance**0.5
    return (spread.mean - reach, spread.mean + reach) if reach > 0 else None


def student_quantile(df: float, level: float = 0.95) -> float:
    """Return the quantile of Student's t that leaves (1 - level) / 2 above it.

    Raises:
        ValueError: The level is no share.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1; got {level}")
    return float(special.stdtrit(df, (1 + level) / 2))


def effective_number(spread: Spread, level: float = 0.95) -> float:
    """Return how many independent values would tell as much about a share (Korn and Graubard 1998).

    It lies between `n_least` and n. Where all values are equal it is `n_least`: nothing was seen of how alike clusters
    are inside.

    Example:
        >>> effective_number(Spread(1.0, 0.0, 95.0, 480, 96.0))
        96.0
    """
    alone = spread.mean * (1 - spread.mean)
    if alone <= 0 or spread.variance <= 0:
        return spread.n_least if alone <= 0 else spread.n
    t_ratio = student_quantile(max(1, spread.n - 1), level) / student_quantile(spread.df, level)
    return float(np.clip(alone / spread.variance * t_ratio**2, spread.n_least, spread.n))


def share_interval(spread: Spread, level: float = 0.95) -> Ends:
    """Return the exact interval of a share (Clopper and Pearson) for its effective number of values.

    Example:
        >>> [round(end, 3) for end in share_interval(Spread(1.0, 0.0, 95.0, 96, 96.0))]
        [0.962, 1.0]
    """
    n, tail = effective_number(spread, level), (1 - level) / 2
    hits = spread.mean * n
    low = 0.0 if hits <= _ROUNDING else float(special.betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if n - hits <= _ROUNDING else float(special.betaincinv(hits + 1, n - hits, 1 - tail))
    return low, high


def share_p_value(spread: Spread) -> float:
    """Return the two-sided p-value that a share is one half; its 95 % interval leaves out 0.5 where it is below 0.05.

    Example:
        >>> share_p_value(Spread(1.0, 0.0, 5.0, 5, 5.0))
        0.0625
    """
    n = effective_number(spread)
    more = max(spread.mean, 1 - spread.mean) * n
    return min(1.0, 2 * float(special.betainc(more, n - more + 1, 0.5)))


def signed_interval(spread: Spread, n_plus: int, n_minus: int, level: float = 0.95) -> Ends:
    """Return the interval of the mean of values of +1, 0 and -1, the paired differences of two shares.

    One more of either sign keeps it from having no width (Bonett and Price 2012), with the effective number of values
    and Student's t for their clusters.

    Args:
        spread: Of the values.
        n_plus: Number of values of +1.
        n_minus: Number of values of -1.
        level: Coverage of the interval.
    """
    alone = (n_plus + n_minus) / spread.n - spread.mean**2
    n = spread.n_least if alone <= 0 else float(spread.n)
    if alone > 0 and spread.variance > 0:
        n = float(np.clip(alone / spread.variance, spread.n_least, spread.n))
    plus, minus = ((n * count / spread.n + 1) / (n + 2) for count in (n_plus, n_minus))
    middle = plus - minus
    reach = student_quantile(spread.df, level) * ((plus + minus - middle**2) / (n + 2)) ** 0.5
    return max(-1.0, middle - reach), min(1.0, middle + reach)
