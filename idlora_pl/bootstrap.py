"""Means of resampled speakers, and the interval that they give.

Intervals are expanded percentile intervals (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015): plain
percentiles of K resampled speakers are too narrow by sqrt((K - 1) / K), and by what a t quantile is above a normal one.
"""

from collections.abc import Iterator, Sequence

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
