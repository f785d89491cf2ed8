"""From scores to a table; nothing else makes numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from idlora_pl.report.cells import Cell, Comparison, Penalised, Reproduction
from idlora_pl.report.mixed import mixed_versions
from idlora_pl.report.reasons import is_failure
from idlora_pl.report.row import N_ITEMS
from idlora_pl.report.scores import ScoreRow, metric_names
from idlora_pl.report.table import COLUMNS, Column, Row, Table
from idlora_pl.stats import Interval, PairedDifference, clustered_interval, paired_difference


def build_table(
    scores: Sequence[ScoreRow],
    rows: Sequence[Row | str],
    columns: Sequence[Column | str],
    paired: Sequence[tuple[str, str]] = (),
    *,
    seconds: Mapping[str, float] | None = None,
    caption: str = "",
) -> Table:
    """Build a table from scores.

    A clip that was generated with several seeds counts once, with the mean over its scored seeds.

    Args:
        scores: Scores of all rows.
        rows: Rows in order; a string is a row of that name.
        columns: Metrics in order; a string is one of ``COLUMNS``.
        paired: Pairs (a, b) of row names to compare as a - b in every metric.
        seconds: Wall time by phase of the run.
        caption: One line above the table.

    Raises:
        ValueError: Unknown metric, unknown row in ``paired``, or rows measured on different clips.
    """
    chosen = tuple(_column(column) for column in columns)
    listed = tuple(Row(row) if isinstance(row, str) else row for row in rows)
    held = {*metric_names(scores), *(metric for row in listed for metric in row.quoted or {})}
    if unknown := [column.metric for column in chosen if scores and column.metric not in held]:
        raise ValueError(f"no score is named '{unknown[0]}'; the scores hold {', '.join(metric_names(scores))}")
    labels = [row.label for row in listed]
    if unknown := [name for pair in paired for name in pair if name not in labels]:
        raise ValueError(f"paired names the row '{unknown[0]}'; the table has {', '.join(labels)}")
    if len(set(labels)) < len(labels):
        raise ValueError(f"rows must have distinct names; got {', '.join(labels)}")
    by_row = {label: [score for score in scores if score.row == label] for label in labels}
    _check_same_clips(by_row)
    cells = [
        Cell(
            row.label,
            column.metric,
            _interval(row, column.metric, by_row[row.label]),
            _are_verified(by_row[row.label], column.metric),
            _n_left_out(by_row[row.label], column.metric),
            len({score.speaker for score in by_row[row.label] if score.scores.get(column.metric) is not None}),
        )
        for row in listed
        for column in chosen
    ]
    comparisons = [
        Comparison(a, b, column.metric, _difference(by_row[a], by_row[b], column.metric))
        for a, b in paired
        for column in chosen
    ]
    table = Table(chosen, listed, tuple(cells), tuple(comparisons), seconds=dict(seconds or {}), caption=caption)
    return _completed(table, by_row)


def _completed(table: Table, by_row: Mapping[str, Sequence[ScoreRow]]) -> Table:
    """Add what is said beside the numbers of a table."""
    mixed = mixed_versions([score for scores in by_row.values() for score in scores])
    penalised, reproductions = tuple(_penalised(table, by_row)), tuple(_reproductions(table))
    return replace(table, penalised=penalised, reproductions=reproductions, mixed=mixed)


def _penalised(table: Table, by_row: Mapping[str, Sequence[ScoreRow]]) -> Iterator[Penalised]:
    """Give the means that count failures, where there are failures and the column has a worst value."""
    for column in table.columns:
        for row in table.rows:
            scores = by_row[row.label]
            n_failed = sum(_has_failed(score, column.metric) for score in scores)
            if column.worst is not None and n_failed:
                interval = _interval(row, column.metric, scores, missing=column.worst)
                yield Penalised(row.label, column.metric, interval, n_failed)


def _reproductions(table: Table) -> Iterator[Reproduction]:
    """Give our numbers beside those of the quoted rows that they should reproduce."""
    quoted = {row.label: row.quoted for row in table.rows if row.quoted is not None}
    for row in table.rows:
        if not row.against:
            continue
        if row.against not in quoted:
            raise ValueError(f"row '{row.label}': against names '{row.against}', which is no quoted row of this table")
        for metric, published in quoted[row.against].items():
            yield Reproduction(row.label, row.against, metric, table.cell(row.label, metric), published)


def _column(column: Column | str) -> Column:
    if isinstance(column, Column):
        return column
    if column not in COLUMNS:
        raise ValueError(f"column '{column}' is not known; give Column(...) or one of {', '.join(COLUMNS)}")
    return COLUMNS[column]


def _check_same_clips(by_row: Mapping[str, Sequence[ScoreRow]]) -> None:
    """Refuse rows that were measured on different clips."""
    keys = {label: {score.key for score in scores} for label, scores in by_row.items() if scores}
    for label, clips in keys.items():
        first = next(iter(keys))
        if clips != keys[first]:
            raise ValueError(
                f"rows '{first}' and '{label}' are measured on different clips: {len(keys[first])} and "
                f"{len(clips)}, {len(clips & keys[first])} of them shared; score both on the same clips"
            )


def clip_values(scores: Sequence[ScoreRow], metric: str, failed: float | None = None) -> dict[str, float | None]:
    """Return the value of each clip, averaged over its seeds; None where there is none.

    With `failed`, that is the value of every generation that failed (see `is_failure`).
    """
    values: dict[str, list[float]] = {score.key: [] for score in scores}
    for score in scores:
        value = score.scores.get(metric)
        if value is None and _has_failed(score, metric):
            value = failed
        if value is not None:
            values[score.key].append(value)
    return {key: fmean(found) if found else None for key, found in values.items()}


def _interval(row: Row, metric: str, scores: Sequence[ScoreRow], missing: float | None = None) -> Interval:
    if row.quoted is not None:
        return Interval(row.quoted.get(metric), None, None, 0, 0)
    speakers = {score.key: score.speaker for score in scores}
    values = clip_values(scores, metric, missing)
    found = clustered_interval(list(values.values()), [speakers[key] for key in values])
    noted = [int(score.notes[N_ITEMS]) for score in scores if score.notes.get(N_ITEMS, "").isdecimal()]
    return replace(found, n_total=max([found.n_total, *noted]))


def _has_failed(score: ScoreRow, metric: str) -> bool:
    return score.scores.get(metric) is None and metric in score.reasons and is_failure(score.reasons[metric])


def _n_left_out(scores: Sequence[ScoreRow], metric: str) -> int:
    """Count generations without a value whose clip has one with another seed."""
    values = clip_values(scores, metric)
    return sum(values[score.key] is not None and score.scores.get(metric) is None for score in scores)


def _are_verified(scores: Sequence[ScoreRow], metric: str) -> bool:
    """Say whether every value of a metric comes from a scorer whose anchor had passed; so does none at all."""
    return all(score.is_verified(metric) for score in scores if score.scores.get(metric) is not None)


def _difference(a: Sequence[ScoreRow], b: Sequence[ScoreRow], metric: str) -> PairedDifference:
    if not a or not b:
        return PairedDifference(None, None, None, None, 0)
    speakers = {score.key: score.speaker for score in a}
    return paired_difference(clip_values(a, metric), clip_values(b, metric), speakers)
