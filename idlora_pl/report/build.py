"""From scores to a table; nothing else makes numbers."""

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from idlora_pl.report.agreement import has_failed, refuse_unlike_rows, remarks_of
from idlora_pl.report.table import COLUMNS, Cell, Column, Comparison, Penalised, Reproduction, Row, Table
from idlora_pl.results.row import N_ITEMS, ScoreRow
from idlora_pl.results.scores_file import metric_names
from idlora_pl.results.statistics import Interval, PairedDifference, are_shares, clustered_interval, paired_difference


def build_table(
    scores: Sequence[ScoreRow],
    rows: Sequence[Row | str],
    columns: Sequence[Column | str],
    paired: Sequence[tuple[str, str]] = (),
    *,
    seconds: Mapping[str, float] | None = None,
    caption: str = "",
    known: Container[str] = (),
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
        known: Scores that exist; a column of one that no row holds is empty, and a note says so.

    Raises:
        ValueError: Unknown metric, unknown row in ``paired``, or rows that cannot be compared (`refuse_unlike_rows`).
    """
    chosen = tuple(_column(column) for column in columns)
    listed = tuple(Row(row) if isinstance(row, str) else row for row in rows)
    _check_names(scores, listed, chosen, paired, known)
    by_row = {row.label: [score for score in scores if score.row == row.label] for row in listed}
    metrics = [column.metric for column in chosen]
    refuse_unlike_rows(by_row, metrics)
    cells = [_cell(row, column, by_row[row.label]) for row in listed for column in chosen]
    comparisons = [_comparison(a, b, column, by_row) for a, b in paired for column in chosen]
    table = Table(chosen, listed, tuple(cells), tuple(comparisons), seconds=dict(seconds or {}), caption=caption)
    return _completed(table, scores, by_row)


def _completed(table: Table, scores: Sequence[ScoreRow], by_row: Mapping[str, Sequence[ScoreRow]]) -> Table:
    """Add what is said beside the numbers of a table."""
    return replace(
        table,
        penalised=tuple(_penalised(table, by_row)),
        reproductions=tuple(_reproductions(table)),
        remarks=tuple(remarks_of(table, scores, by_row)),
    )


def _check_names(
    scores: Sequence[ScoreRow],
    rows: Sequence[Row],
    columns: Sequence[Column],
    paired: Sequence[tuple[str, str]],
    known: Container[str],
) -> None:
    """Refuse columns that nothing gives, pairs of rows that are not there, and rows of one name."""
    held = {*metric_names(scores), *(metric for row in rows for metric in row.quoted or {})}
    if unknown := [c.metric for c in columns if scores and c.metric not in held and c.metric not in known]:
        raise ValueError(f"no score is named '{unknown[0]}'; the scores hold {', '.join(metric_names(scores))}")
    labels = [row.label for row in rows]
    if unknown := [name for pair in paired for name in pair if name not in labels]:
        raise ValueError(f"paired names the row '{unknown[0]}'; the table has {', '.join(labels)}")
    if len(set(labels)) < len(labels):
        raise ValueError(f"rows must have distinct names; got {', '.join(labels)}")


def _cell(row: Row, column: Column, scores: Sequence[ScoreRow]) -> Cell:
    return Cell(
        row.label,
        column.metric,
        _interval(row, column, scores),
        _are_verified(scores, column.metric),
        _n_left_out(scores, column.metric),
        len({score.speaker for score in scores if score.scores.get(column.metric) is not None}),
        _seeds(scores, column.metric),
    )


def _penalised(table: Table, by_row: Mapping[str, Sequence[ScoreRow]]) -> Iterator[Penalised]:
    """Give the means that count failures, where there are failures and the column has a worst value."""
    for column in table.columns:
        for row in table.rows:
            scores = by_row[row.label]
            n_failed = sum(has_failed(score, column.metric) for score in scores)
            if column.worst is not None and n_failed:
                interval = _interval(row, column, scores, missing=column.worst)
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


def clip_values(
    scores: Sequence[ScoreRow], metric: str, failed: float | None = None, *, unsigned: bool = False
) -> dict[str, float | None]:
    """Return the value of each clip, averaged over its seeds; None where there is none.

    With `failed`, that is the value of every generation that failed (see `is_failure`). With `unsigned`, the distances
    from zero are averaged.
    """
    values = _by_clip(scores, metric, failed, unsigned=unsigned)
    return {key: fmean(found) if found else None for key, found in values.items()}


def _by_clip(
    scores: Sequence[ScoreRow], metric: str, failed: float | None = None, *, unsigned: bool = False
) -> dict[str, list[float]]:
    """Return the values of the generations of each clip, as `clip_values` averages them."""
    values: dict[str, list[float]] = {score.key: [] for score in scores}
    for score in scores:
        value = score.scores.get(metric)
        if value is None and has_failed(score, metric):
            value = failed
        if value is not None:
            values[score.key].append(abs(value) if unsigned else value)
    return values


def _interval(row: Row, column: Column, scores: Sequence[ScoreRow], missing: float | None = None) -> Interval:
    if row.quoted is not None:
        return Interval(row.quoted.get(column.metric), None, None, 0, 0)
    speakers = {score.key: score.speaker for score in scores}
    made = _by_clip(scores, column.metric, missing, unsigned=column.is_unsigned)
    found = clustered_interval(
        [fmean(found) if found else None for found in made.values()],
        [speakers[key] for key in made],
        over_seeds=are_shares(value for found in made.values() for value in found),
    )
    noted = [int(score.notes[N_ITEMS]) for score in scores if score.notes.get(N_ITEMS, "").isdecimal()]
    return replace(found, n_total=max([found.n_total, *noted]))


def _n_left_out(scores: Sequence[ScoreRow], metric: str) -> int:
    """Count generations without a value whose clip has one with another seed."""
    values = clip_values(scores, metric)
    return sum(values[score.key] is not None and score.scores.get(metric) is None for score in scores)


def _are_verified(scores: Sequence[ScoreRow], metric: str) -> bool:
    """Say whether every value of a metric comes from a scorer whose anchor had passed; so does none at all."""
    return all(score.is_verified(metric) for score in scores if score.scores.get(metric) is not None)


def _comparison(a: str, b: str, column: Column, by_row: Mapping[str, Sequence[ScoreRow]]) -> Comparison:
    """Compare two rows in a column, without and with failures as its worst value."""
    rows = by_row[a], by_row[b]
    failed = [{score.key for score in scores if has_failed(score, column.metric)} for scores in rows]
    n_failed = sum(has_failed(score, column.metric) for scores in rows for score in scores)
    plain = _difference(*rows, column)
    if not all(rows):
        return Comparison(a, b, column.metric, plain, n_failed=n_failed)
    counted = [clip_values(scores, column.metric, column.worst, unsigned=column.is_unsigned) for scores in rows]
    unpaired = {key for key in counted[0] if (counted[0][key] is None) != (counted[1][key] is None)}
    if column.worst is None:
        unpaired |= failed[0] ^ failed[1]
    has_penalty = n_failed and column.worst is not None
    penalised = _difference(*rows, column, failed=column.worst) if has_penalty else None
    return Comparison(a, b, column.metric, plain, penalised, n_failed, len(unpaired))


def _difference(
    a: Sequence[ScoreRow], b: Sequence[ScoreRow], column: Column, failed: float | None = None
) -> PairedDifference:
    if not a or not b:
        return PairedDifference(None, None, None, None, 0)
    speakers = {score.key: score.speaker for score in a}
    of_a, of_b = (clip_values(scores, column.metric, failed, unsigned=column.is_unsigned) for scores in (a, b))
    null = None if column.margin is None else -column.sign * column.margin
    return paired_difference(of_a, of_b, speakers, null=null)


def _seeds(scores: Sequence[ScoreRow], metric: str) -> tuple[int, int]:
    """Return the least and the most generations with a value of the clips that have one."""
    found = Counter(score.key for score in scores if score.scores.get(metric) is not None)
    return (min(found.values()), max(found.values())) if found else (0, 0)
