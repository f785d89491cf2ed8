"""How well one score fits one published column: order and level of the methods, on the same clips.

M methods, N clips, K speakers, R resamples.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from idlora_pl.report.calibration.grid import Grid
from idlora_pl.report.calibration.ranking import agreeing_pairs, kendall_tau, order_p_value
from idlora_pl.report.table import Column
from idlora_pl.results.intervals import Floats, bootstrap_means, cluster_sums, expanded_interval
from idlora_pl.results.statistics import Interval, clustered_interval

MIN_SPEAKERS = 6
"""Of fewer speakers no interval is given and nothing is decided: with five, the smallest two-sided p-value of a
sign-flip test over speakers is 2 / 2^5 = 0.06; with six it is 0.03."""


@dataclass(frozen=True)
class Level:
    """The level of one method beside the published one.

    Attributes:
        method: Row of the scores.
        published: Published value.
        ours: Mean over the common clips, with an interval from `MIN_SPEAKERS` speakers on.
        rank: Place of the method by our means, 1 the best; methods of one mean share the better place.
        published_rank: Place by the published values.
    """

    method: str
    published: float
    ours: Interval
    rank: int
    published_rank: int


@dataclass(frozen=True)
class Fit:
    """The fit of one score to one published column.

    Attributes:
        score: The score.
        levels: One for each method that has the score.
        n_clips: Clips that all of them have the score for.
        n_speakers: Speakers of these clips.
        tau: Kendall's tau-b between our order of the methods and the published one; None where there is none.
        p: Share of all orders that agree with the published one at least as well.
        off: Mean absolute difference from the published levels, with its interval; None for a stand-in. It is never
            negative, so that it, and its bootstrap even more, lie above zero where nothing is off: see `bias`.
        bias: Mean signed difference, ours minus published, with its interval; None for a stand-in.
        pairs: Mean share of pairs of methods that a single clip orders as published, with its interval.
        clips_agreeing: Clips whose whole order is the published one.
        covered: Methods whose interval covers the published level; None without intervals, and for a stand-in.
    """

    score: str
    levels: tuple[Level, ...]
    n_clips: int
    n_speakers: int
    tau: float | None
    p: float | None
    off: Interval | None
    bias: Interval | None
    pairs: Interval | None
    clips_agreeing: int
    covered: int | None


def fit_of(grid: Grid, column: Column, quoted: Mapping[str, float], *, is_stand_in: bool = False) -> Fit:
    """Compare a score with a published column.

    Args:
        grid: The score on at least one common clip.
        column: The column; the score has its direction.
        quoted: Published value by method, for all methods of the grid.
        is_stand_in: Whether the score is on another scale, so that levels are not compared.
    """
    sign = -1.0 if column.better == "lower" else 1.0
    published = np.array([quoted[name] for name in grid.methods])
    means = grid.values.mean(axis=1)
    ours, goal = sign * means, sign * published
    intervals = [honest(clustered_interval(list(row), grid.speakers), grid.n_speakers) for row in grid.values]
    ranks, published_ranks = _ranks(ours), _ranks(goal)
    levels = tuple(
        Level(name, float(published[i]), intervals[i], ranks[i], published_ranks[i])
        for i, name in enumerate(grid.methods)
    )
    agreeing = agreeing_pairs(sign * grid.values, goal)
    return Fit(
        score=grid.score,
        levels=levels,
        n_clips=len(grid.keys),
        n_speakers=grid.n_speakers,
        tau=kendall_tau(ours, goal),
        p=order_p_value(ours, goal),
        off=None if is_stand_in else _off(grid, published),
        bias=None if is_stand_in else _bias(grid, published),
        pairs=None if agreeing is None else honest(clustered_interval(list(agreeing), grid.speakers), grid.n_speakers),
        clips_agreeing=0 if agreeing is None else int((agreeing == 1).sum()),
        covered=None if is_stand_in else _covered(levels),
    )


def honest(found: Interval, n_speakers: int) -> Interval:
    """Take the ends off an interval of too few speakers."""
    return found if n_speakers >= MIN_SPEAKERS else replace(found, ci_low=None, ci_high=None)


def misfits(grid: Grid, published: Floats) -> Floats:
    """Return the mean absolute difference from the published levels (M,) in each resample of speakers: (R,).

    Grids of the same clips are resampled alike, so their misfits can be subtracted.
    """
    means = [bootstrap_means(*cluster_sums(list(row), grid.speakers)) for row in grid.values]
    return np.abs(np.array(means) - published[:, None]).mean(axis=0)


def _off(grid: Grid, published: Floats) -> Interval:
    off = float(np.abs(grid.values.mean(axis=1) - published).mean())
    n = len(grid.keys)
    if grid.n_speakers < MIN_SPEAKERS:
        return Interval(off, None, None, n, n)
    return Interval(off, *expanded_interval(misfits(grid, published), grid.n_speakers), n, n)


def _bias(grid: Grid, published: Floats) -> Interval:
    """Return the signed difference from the published levels, whose errors of either sign cancel."""
    differences = (grid.values - published[:, None]).mean(axis=0)
    return honest(clustered_interval(list(differences), grid.speakers), grid.n_speakers)


def _covered(levels: tuple[Level, ...]) -> int | None:
    ends = [(one.ours.ci_low, one.published, one.ours.ci_high) for one in levels]
    known = [(low, value, high) for low, value, high in ends if low is not None and high is not None]
    return sum(low <= value <= high for low, value, high in known) if known else None


def _ranks(values: Floats) -> list[int]:
    """Return the place of each value, 1 the largest."""
    return [1 + int((values > value + 1e-12).sum()) for value in values]
