"""How well one score fits one published column: order and level of the methods, on the same clips.

A grid is one score on the clips that every method has it for, with the reasons why other clips are left out. Order is
Kendall's tau-b with its exact p-value, and pairs within one clip; values are oriented before: larger is better.

M methods, N clips, K speakers, R resamples.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from math import factorial

import numpy as np
from numpy.typing import NDArray

from idlora_pl.report.build import clip_values
from idlora_pl.report.table import Column
from idlora_pl.results.intervals import Floats, bootstrap_means, cluster_sums, expanded_interval
from idlora_pl.results.row import ScoreRow
from idlora_pl.results.statistics import Interval, clustered_interval


@dataclass(frozen=True)
class Grid:
    """Values of one score, with no hole.

    Attributes:
        score: Its name.
        methods: The methods, in the table's order.
        keys: Names of the clips.
        speakers: Speaker of each clip.
        values: (M, N); the mean over seeds where a clip was generated several times.
        left_out: For each clip that is not among `keys`, which methods lack it and why.
        without: For each method that has the score for no clip, why.
        is_verified: Whether the scorer's anchor had passed for every value.
    """

    score: str
    methods: tuple[str, ...]
    keys: tuple[str, ...]
    speakers: tuple[str, ...]
    values: Floats
    left_out: Mapping[str, str]
    without: Mapping[str, str]
    is_verified: bool

    @property
    def n_speakers(self) -> int:
        """How many people speak."""
        return len(set(self.speakers))

    def on(self, keys: Collection[str]) -> "Grid":
        """Return the part of the clips that is among `keys`."""
        kept = [place for place, key in enumerate(self.keys) if key in keys]
        names, people = tuple(self.keys[place] for place in kept), tuple(self.speakers[place] for place in kept)
        values = self.values[:, kept]
        return Grid(self.score, self.methods, names, people, values, self.left_out, self.without, self.is_verified)


def grid_of(scores: Sequence[ScoreRow], score: str, methods: Sequence[str]) -> Grid:
    """Collect a score on the clips that every method has it for; methods that have it for none are left out.

    Args:
        scores: Rows of any kind; those of `methods` are taken.
        score: Its name.
        methods: The methods, in order.

    Raises:
        ValueError: Methods were scored with different weights.
    """
    by_method = {name: [row for row in scores if row.row == name] for name in methods}
    _refuse_other_weights(by_method, score)
    values = {name: clip_values(rows, score) for name, rows in by_method.items()}
    kept = [name for name in methods if any(value is not None for value in values[name].values())]
    keys = list(dict.fromkeys(key for name in methods for key in values[name]))
    lacking = {key: [name for name in kept if values[name].get(key) is None] for key in keys}
    common = [key for key in keys if not lacking[key]] if kept else []
    people = {row.key: row.speaker for rows in by_method.values() for row in rows}
    numbers = np.array([[values[name][key] for key in common] for name in kept], dtype=np.float64)
    used = [row for name in kept for row in by_method[name] if row.key in common]
    return Grid(
        score=score,
        methods=tuple(kept),
        keys=tuple(common),
        speakers=tuple(people[key] for key in common),
        values=numbers.reshape(len(kept), len(common)),
        left_out={key: _reasons(by_method, score, key, lacking[key]) for key in keys if kept and lacking[key]},
        without={name: _why_none(by_method[name], score) for name in methods if name not in kept},
        is_verified=bool(used) and all(row.is_verified(score) for row in used),
    )


def _reasons(by_method: Mapping[str, Sequence[ScoreRow]], score: str, key: str, methods: Sequence[str]) -> str:
    """Return "kling clip_not_given, ours silent"."""
    said = []
    for name in methods:
        found = {row.reasons.get(score, "not scored") for row in by_method[name] if row.key == key}
        said.append(f"{name} {' and '.join(sorted(found)) or 'not scored'}")
    return ", ".join(said)


def _why_none(rows: Sequence[ScoreRow], score: str) -> str:
    reasons = sorted({row.reasons[score] for row in rows if score in row.reasons})
    return " and ".join(reasons) or "not scored"


def _refuse_other_weights(by_method: Mapping[str, Sequence[ScoreRow]], score: str) -> None:
    first: tuple[str, str] | None = None
    for name, rows in by_method.items():
        for facts in (row.facts(score) for row in rows):
            if facts is None:
                continue
            first = first or (name, facts.weights)
            if facts.weights != first[1]:
                raise ValueError(
                    f"{score} of '{first[0]}' was made with weights {first[1]}, of '{name}' with {facts.weights}; "
                    "score all methods with the same weights"
                )


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


Signs = NDArray[np.int64]

MAX_METHODS = 8
"""Of more methods, not all orders are tried, and no p-value is given."""
_TIE = 1e-12


def pair_signs(values: Floats) -> Signs:
    """Return +1, 0 or -1 for each pair of methods: values (..., M) to (..., M * (M - 1) / 2).

    Example:
        >>> pair_signs(np.array([3.0, 1.0, 3.0]))
        array([ 1,  0, -1])
    """
    first, second = np.triu_indices(values.shape[-1], k=1)
    difference = values[..., first] - values[..., second]
    return np.where(np.abs(difference) <= _TIE, 0, np.sign(difference)).astype(np.int64)


def kendall_tau(ours: Floats, published: Floats) -> float | None:
    """Return tau-b of two lists (M,); None where there are fewer than two methods or all of a list are tied.

    Example:
        >>> kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0]))  # doctest: +ELLIPSIS
        0.333...
    """
    a, b = pair_signs(ours), pair_signs(published)
    untied = float(np.abs(a).sum()) * float(np.abs(b).sum())
    return float((a * b).sum() / np.sqrt(untied)) if untied else None


def order_p_value(ours: Floats, published: Floats) -> float | None:
    """Return the share of all M! orders of ours that agree with the published one at least as well (exact, one-sided).

    The smallest value for five methods is 1 / 120. None where tau is None, or for more than `MAX_METHODS` methods.

    Example:
        >>> order_p_value(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0]))  # doctest: +ELLIPSIS
        0.1666...
    """
    if kendall_tau(ours, published) is None or len(ours) > MAX_METHODS:
        return None
    goal = pair_signs(published)
    orders = ours[np.array(list(permutations(range(len(ours)))))]
    at_least = (pair_signs(orders) * goal).sum(axis=1) >= (pair_signs(ours) * goal).sum()
    return float(at_least.sum() / factorial(len(ours)))


def agreeing_pairs(values: Floats, published: Floats) -> Floats | None:
    """Return, for each clip, the share of pairs of methods that it orders as published: (M, N) and (M,) to (N,).

    Pairs that are tied in the published list are left out; a pair that is tied within a clip does not agree. None
    where no pair is left.
    """
    goal = pair_signs(published)
    if not goal.any():
        return None
    agree = pair_signs(values.T) == goal
    return agree[:, goal != 0].mean(axis=1)
