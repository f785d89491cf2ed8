"""From scores and a published table to a calibration: a fit for every candidate, a verdict for every choice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.calibration.fit import Fit, Grid, fit_of, grid_of, honest
from experiments.calibration.published import Published
from experiments.calibration.verdict import CHOICES, Candidate, Evidence, Verdict, candidates_of, verdict
from idlora_pl.report.build import clip_values
from idlora_pl.report.table import Column
from idlora_pl.results.row import ScoreRow
from idlora_pl.results.scores_file import metric_names, row_names
from idlora_pl.results.statistics import Interval, clustered_interval


@dataclass(frozen=True)
class Measured:
    """One candidate of a column.

    Attributes:
        candidate: The score.
        fit: How well it fits; None where there is no number.
        absence: Why there is none.
        is_verified: Whether the anchor of its scorer had passed.
        left_out: Why clips are not compared, by clip.
        without: Why methods are not compared, by method.
        bounds: Level of the rows that are no methods, such as the real clips, on the same clips.
    """

    candidate: Candidate
    fit: Fit | None
    absence: str = ""
    is_verified: bool = False
    left_out: Mapping[str, str] | None = None
    without: Mapping[str, str] | None = None
    bounds: Mapping[str, Interval] | None = None


@dataclass(frozen=True)
class Calibration:
    """A published table beside scores of the same methods' clips.

    Attributes:
        published: The published table.
        scores: The file of scores.
        split: The split whose clips are compared; "" for all clips.
        n_clips: Clips of this split, scored or not.
        n_elsewhere: Clips of other splits, which are not compared.
        columns: Each published column with its candidates.
        verdicts: One for each choice about these columns.
        silent: Rows of the scores, no published methods, that have no number at all, and why.
        remark: What to say where a score is missing.
    """

    published: Published
    scores: Path
    split: str
    n_clips: int
    n_elsewhere: int
    columns: tuple[tuple[Column, tuple[Measured, ...]], ...]
    verdicts: tuple[Verdict, ...]
    silent: Mapping[str, str]
    remark: str = ""


def calibrate(
    scores: Sequence[ScoreRow], published: Published, where: Path, split: str, absent: Callable[[str], str]
) -> Calibration:
    """Compare scores with a published table.

    Args:
        scores: Rows of methods, and of bounds.
        published: The table.
        where: The file of the scores.
        split: The split whose clips are compared; "" for all.
        absent: Says why there is no value of a score that nothing was scored with.

    Raises:
        ValueError: There is no clip of the split, or methods were scored with different weights.
    """
    kept = [row for row in scores if split in ("", row.notes.get("split"))]
    if not kept:
        there = sorted({row.notes.get("split", "no split") for row in scores})
        raise ValueError(
            f"{where} has no clip of split '{split}', it has {', '.join(there)}; give --split with one of them, or "
            "'all' for all clips"
        )
    columns, verdicts = [], []
    for column in published.columns:
        evidence = _evidence(kept, published, column, absent)
        quoted = evidence.quoted
        if not quoted:
            continue
        measured = [_measured(kept, one, evidence, published) for one in candidates_of(column.metric)]
        columns.append((column, tuple(measured)))
        names = {one.candidate.score for one in measured}
        verdicts += [verdict(choice, evidence) for choice in CHOICES if choice.families[0][0] in names]
    n_all, n_kept = len({row.key for row in scores}), len({row.key for row in kept})
    silent = _silent(kept, published)
    return Calibration(published, where, split, n_kept, n_all - n_kept, tuple(columns), tuple(verdicts), silent)


def _silent(scores: Sequence[ScoreRow], published: Published) -> dict[str, str]:
    """Return the rows that are no methods and have no number at all, with their reasons."""
    methods, said = {one.name for one in published.methods}, {}
    for name in row_names(scores):
        rows = [row for row in scores if row.row == name]
        if name not in methods and all(value is None for row in rows for value in row.scores.values()):
            said[name] = " and ".join(sorted({why for row in rows for why in row.reasons.values()})) or "not scored"
    return said


def _evidence(
    scores: Sequence[ScoreRow], published: Published, column: Column, absent: Callable[[str], str]
) -> Evidence:
    """Collect the grids of all candidates of a column."""
    listed = {one.name: one.quoted.get(column.metric) for one in published.methods}
    quoted = {name: value for name, value in listed.items() if value is not None}
    held = set(metric_names([row for row in scores if row.row in quoted]))
    names = [one.score for one in candidates_of(column.metric)]
    grids = {name: grid_of(scores, name, list(quoted)) for name in names if name in held}
    missing = {name: _no_value(grid) for name, grid in grids.items() if not grid.keys}
    missing |= {name: absent(name) for name in names if name not in held}
    return Evidence(column, quoted, {name: grid for name, grid in grids.items() if grid.keys}, missing)


def _no_value(grid: Grid) -> str:
    if grid.methods:
        return f"no clip has {grid.score} for all of {', '.join(grid.methods)}"
    why = " and ".join(sorted(set(grid.without.values())))
    return f"no clip has {grid.score} ({why})"


def _measured(scores: Sequence[ScoreRow], candidate: Candidate, evidence: Evidence, published: Published) -> Measured:
    name = candidate.score
    if name not in evidence.grids:
        return Measured(candidate, None, evidence.absent[name])
    grid = evidence.grids[name]
    methods = {one.name for one in published.methods}
    others = [row for row in row_names(scores) if row not in methods | _silent(scores, published).keys()]
    bounds = {row: _level(scores, row, grid) for row in others}
    fit = fit_of(grid, evidence.column, evidence.quoted, is_stand_in=candidate.is_stand_in)
    return Measured(candidate, fit, "", grid.is_verified, grid.left_out, grid.without, bounds)


def _level(scores: Sequence[ScoreRow], row: str, grid: Grid) -> Interval:
    """Return the level of another row on the clips of a grid."""
    values = clip_values([one for one in scores if one.row == row], grid.score)
    listed = [values.get(key) for key in grid.keys]
    people = {speaker for speaker, value in zip(grid.speakers, listed, strict=True) if value is not None}
    return honest(clustered_interval(listed, grid.speakers), len(people))
