"""From scores to a table; nothing else makes numbers."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from idlora_pl.report.scores import ScoreRow, metric_names
from idlora_pl.report.table import COLUMNS, Cell, Column, Comparison, Row, Table
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
    if unknown := [column.metric for column in chosen if scores and column.metric not in metric_names(scores)]:
        raise ValueError(f"no score is named '{unknown[0]}'; the scores hold {', '.join(metric_names(scores))}")
    labels = [row.label for row in listed]
    if unknown := [name for pair in paired for name in pair if name not in labels]:
        raise ValueError(f"paired names the row '{unknown[0]}'; the table has {', '.join(labels)}")
    if len(set(labels)) < len(labels):
        raise ValueError(f"rows must have distinct names; got {', '.join(labels)}")
    by_row = {label: [score for score in scores if score.row == label] for label in labels}
    _check_same_clips(by_row)
    cells = [
        Cell(row.label, column.metric, _interval(row, column.metric, by_row[row.label]))
        for row in listed
        for column in chosen
    ]
    comparisons = [
        Comparison(a, b, column.metric, _difference(by_row[a], by_row[b], column.metric))
        for a, b in paired
        for column in chosen
    ]
    return Table(chosen, listed, tuple(cells), tuple(comparisons), dict(seconds or {}), caption)


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


def _clip_values(scores: Sequence[ScoreRow], metric: str) -> dict[str, float | None]:
    """Return the value of each clip, averaged over its seeds; None where no seed was scored."""
    values: dict[str, list[float]] = {score.key: [] for score in scores}
    for score in scores:
        if (value := score.scores.get(metric)) is not None:
            values[score.key].append(value)
    return {key: fmean(found) if found else None for key, found in values.items()}


def _interval(row: Row, metric: str, scores: Sequence[ScoreRow]) -> Interval:
    if row.quoted is not None:
        return Interval(row.quoted.get(metric), None, None, 0, 0)
    speakers = {score.key: score.speaker for score in scores}
    values = _clip_values(scores, metric)
    return clustered_interval(list(values.values()), [speakers[key] for key in values])


def _difference(a: Sequence[ScoreRow], b: Sequence[ScoreRow], metric: str) -> PairedDifference:
    if not a or not b:
        return PairedDifference(None, None, None, None, 0)
    speakers = {score.key: score.speaker for score in a}
    return paired_difference(_clip_values(a, metric), _clip_values(b, metric), speakers)
