"""Intervals and tests for per-clip scores whose clips come from few speakers.

Clips of one speaker are not independent, so every resample draws speakers and takes all their clips. Missing
scores (None) are left out of the mean and counted: a result says on how many clips it stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from idlora_pl.bootstrap import N_RESAMPLES, Floats, bootstrap_means, chunks, cluster_sums, expanded_interval


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval.

    Attributes:
        mean: Mean over the scored clips; None when no clip is scored.
        ci_low: Lower end of the interval; None with fewer than two speakers, where no spread can be seen.
        ci_high: Upper end of the interval.
        n_scored: Clips with a score.
        n_total: All clips.
    """

    mean: float | None
    ci_low: float | None
    ci_high: float | None
    n_scored: int
    n_total: int


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a - b over the clips that both rows have a score for.

    Attributes:
        diff: Mean difference; None when no clip is scored in both.
        ci_low: Lower end of the bootstrap interval; None with fewer than two speakers.
        ci_high: Upper end of the bootstrap interval.
        p: Two-sided p-value of the sign-flip test over speakers; None with fewer than two speakers.
        n: Clips scored in both rows.
    """

    diff: float | None
    ci_low: float | None
    ci_high: float | None
    p: float | None
    n: int


def clustered_interval(
    values: Sequence[float | None],
    clusters: Sequence[str],
    *,
    level: float = 0.95,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the mean of per-clip scores with an expanded percentile bootstrap interval over speakers.

    Args:
        values: Score of each clip, None where there is none.
        clusters: Speaker of each clip.
        level: Coverage of the interval.
        n_resamples: Number of bootstrap resamples.
        seed: Seed of the resampling.

    Example:
        >>> clustered_interval([0.0, 1.0, None], ["ann", "bob", "bob"]).n_scored
        2
    """
    if len(values) != len(clusters):
        raise ValueError(f"values and clusters must be of one length; got {len(values)} and {len(clusters)}")
    kept = [(value, cluster) for value, cluster in zip(values, clusters, strict=True) if value is not None]
    if not kept:
        return Interval(None, None, None, 0, len(values))
    sums, counts = cluster_sums([value for value, _ in kept], [cluster for _, cluster in kept])
    low, high = _interval(sums, counts, level, n_resamples, seed)
    return Interval(float(sums.sum() / counts.sum()), low, high, len(kept), len(values))


def paired_difference(
    a: Mapping[str, float | None],
    b: Mapping[str, float | None],
    clusters: Mapping[str, str],
    *,
    level: float = 0.95,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Compare two rows on the same clips.

    Args:
        a: Score of each clip by key, None where there is none.
        b: The same clips in the other row.
        clusters: Speaker of each clip by key.
        level: Coverage of the interval.
        n_resamples: Number of bootstrap resamples, and of sign flips.
        seed: Seed of both.

    Raises:
        ValueError: The rows are measured on different clips.
    """
    if a.keys() != b.keys():
        raise ValueError(
            f"the rows are measured on different clips: {len(a)} and {len(b)}, {len(a.keys() & b.keys())} of "
            "them shared; score both rows on the same clips"
        )
    kept = {key: (x, y) for key in sorted(a) if (x := a[key]) is not None and (y := b[key]) is not None}
    if not kept:
        return PairedDifference(None, None, None, None, 0)
    sums, counts = cluster_sums([x - y for x, y in kept.values()], [clusters[key] for key in kept])
    low, high = _interval(sums, counts, level, n_resamples, seed)
    p = None if len(sums) < 2 else sign_flip_p_value(sums, n_flips=n_resamples, seed=seed)
    return PairedDifference(float(sums.sum() / counts.sum()), low, high, p, len(kept))


def sign_flip_p_value(sums: Floats, *, n_flips: int = N_RESAMPLES, seed: int = 0) -> float:
    """Return the two-sided p-value that cluster sums are symmetric around zero.

    Under the null hypothesis a - b and b - a are equally likely for each speaker, so the sign of each sum may
    be flipped. All 2^K flips are tried when they are at most n_flips; otherwise n_flips random ones, counting
    the observed one as one more.

    Args:
        sums: (K,) sum of the differences of each cluster.
        n_flips: Number of random flips.
        seed: Seed of the flips.

    Example:
        >>> sign_flip_p_value(np.ones(4))
        0.125
    """
    observed = abs(sums.sum()) - 1e-12 * np.abs(sums).sum()
    n_clusters = len(sums)
    if 2**n_clusters <= n_flips:
        bits = np.arange(2**n_clusters)[:, None] >> np.arange(n_clusters) & 1
        return float((np.abs((1 - 2 * bits) @ sums) >= observed).mean())
    rng = np.random.default_rng(seed)
    flips = (rng.integers(0, 2, size=(size, n_clusters)) for size in chunks(n_flips))
    extreme = sum(int((np.abs((1 - 2 * bits) @ sums) >= observed).sum()) for bits in flips)
    return (extreme + 1) / (n_flips + 1)


def _interval(
    sums: Floats, counts: Floats, level: float, n_resamples: int, seed: int
) -> tuple[float | None, float | None]:
    """Return the two ends of the bootstrap interval, or None where there are fewer than two clusters."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1; got {level}")
    if len(sums) < 2:
        return None, None
    return expanded_interval(bootstrap_means(sums, counts, n_resamples=n_resamples, seed=seed), len(sums), level)
