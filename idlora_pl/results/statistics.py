"""Intervals and tests for per-clip scores whose clips come from few speakers.

Clips of one speaker are not independent, so speakers are what counts: the spread is that of speakers, with all their
clips. Missing scores (None) are left out of the mean and counted: a result says on how many clips it stands.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from idlora_pl.results.intervals import (
    N_RESAMPLES,
    Floats,
    Spread,
    chunks,
    cluster_spread,
    cluster_sums,
    share_interval,
    signed_interval,
    student_interval,
    student_quantile,
)

_TOLERANCE = 1e-12
"""Part of the sums' size by which equal ones may differ because of rounding."""


@dataclass(frozen=True)
class Interval:
    """A mean with its interval.

    Attributes:
        mean: Mean over the scored clips; None when no clip is scored.
        ci_low: Lower end of the interval; None with fewer than two speakers, and where all speakers are alike (except
            for shares), since no spread can be seen there.
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
        ci_low: Lower end of the interval; None as in `Interval`.
        ci_high: Upper end of the interval.
        p: Two-sided p-value of the sign-flip test over speakers; None with fewer than two speakers.
        n: Clips scored in both rows.
        n_speakers: Speakers of these clips.
        n_dropped: Clips of the rows that lack a score in one or in both.
        p_margin: The same p-value for the difference that was given as null, instead of 0; None where none was.
    """

    diff: float | None
    ci_low: float | None
    ci_high: float | None
    p: float | None
    n: int
    n_speakers: int = 0
    n_dropped: int = 0
    p_margin: float | None = None


def clustered_interval(
    values: Sequence[float | None], clusters: Sequence[str], *, level: float = 0.95, over_seeds: bool = False
) -> Interval:
    """Return the mean of per-clip scores with its interval over speakers.

    It is Student's t with a variance over speakers; where every score is 0 or 1, it is an exact one for shares.

    Args:
        values: Score of each clip, None where there is none.
        clusters: Speaker of each clip.
        level: Coverage of the interval.
        over_seeds: Whether the scores are means of 0 and 1 over seeds; each counts as one value of a share at most.

    Example:
        >>> clustered_interval([0.0, 1.0, None], ["ann", "bob", "bob"]).n_scored
        2
    """
    if len(values) != len(clusters):
        raise ValueError(f"values and clusters must be of one length; got {len(values)} and {len(clusters)}")
    kept = [(value, cluster) for value, cluster in zip(values, clusters, strict=True) if value is not None]
    if not kept:
        return Interval(None, None, None, 0, len(values))
    numbers = [value for value, _ in kept]
    sums, counts = cluster_sums(numbers, [cluster for _, cluster in kept])
    ends = None
    student_quantile(1, level)  # refuses a level that is none, whatever the scores are
    if len(sums) > 1:
        spread = cluster_spread(sums, counts)
        is_share = over_seeds or are_shares(numbers)
        ends = share_interval(spread, level) if is_share else student_interval(spread, level)
    low, high = ends or (None, None)
    return Interval(float(sums.sum() / counts.sum()), low, high, len(kept), len(values))


def are_shares(values: Iterable[float]) -> bool:
    """Say whether a mean is a share: every value is 0 or 1."""
    return all(value in (0, 1) for value in values)


def paired_difference(
    a: Mapping[str, float | None],
    b: Mapping[str, float | None],
    clusters: Mapping[str, str],
    *,
    null: float | None = None,
    level: float = 0.95,
    n_flips: int = N_RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Compare two rows on the same clips.

    Args:
        a: Score of each clip by key, None where there is none.
        b: The same clips in the other row.
        clusters: Speaker of each clip by key.
        null: A difference other than 0 that is tested as well.
        level: Coverage of the interval.
        n_flips: Number of random sign flips, where not all are tried.
        seed: Seed of the flips.

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
        return PairedDifference(None, None, None, None, 0, 0, len(a))
    sums, counts = cluster_sums([x - y for x, y in kept.values()], [clusters[key] for key in kept])
    diff, n_dropped = float(sums.sum() / counts.sum()), len(a) - len(kept)
    if len(sums) < 2:
        return PairedDifference(diff, None, None, None, len(kept), 1, n_dropped)
    ends = _difference_ends(list(kept.values()), cluster_spread(sums, counts), level)
    p = sign_flip_p_value(sums, n_flips=n_flips, seed=seed)
    p_margin = None if null is None else sign_flip_p_value(sums - null * counts, n_flips=n_flips, seed=seed)
    return PairedDifference(diff, *ends, p, len(kept), len(sums), n_dropped, p_margin)


def _difference_ends(
    pairs: Sequence[tuple[float, float]], spread: Spread, level: float
) -> tuple[float | None, float | None]:
    if are_shares(value for pair in pairs for value in pair):
        return signed_interval(spread, sum(x > y for x, y in pairs), sum(x < y for x, y in pairs), level)
    return student_interval(spread, level) or (None, None)


def sign_flip_p_value(sums: Floats, *, n_flips: int = N_RESAMPLES, seed: int = 0) -> float:
    """Return the two-sided p-value that cluster sums are symmetric around zero.

    Under the null hypothesis a - b and b - a are equally likely for each speaker, so the sign of each sum may
    be flipped. All 2^K flips are tried when they are at most n_flips; otherwise n_flips random ones, counting
    the observed one as one more. A flip counts where its sum is at least as far from zero, up to rounding.

    Args:
        sums: (K,) sum of the differences of each cluster.
        n_flips: Number of random flips.
        seed: Seed of the flips.

    Example:
        >>> sign_flip_p_value(np.ones(4)), sign_flip_p_value(np.zeros(4))
        (0.125, 1.0)
    """
    observed = abs(sums.sum()) - _TOLERANCE * np.abs(sums).sum()
    n_clusters = len(sums)
    if 2**n_clusters <= n_flips:
        bits = np.arange(2**n_clusters)[:, None] >> np.arange(n_clusters) & 1
        return float((np.abs((1 - 2 * bits) @ sums) >= observed).mean())
    rng = np.random.default_rng(seed)
    flips = (rng.integers(0, 2, size=(size, n_clusters)) for size in chunks(n_flips))
    extreme = sum(int((np.abs((1 - 2 * bits) @ sums) >= observed).sum()) for bits in flips)
    return (extreme + 1) / (n_flips + 1)
