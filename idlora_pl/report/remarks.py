"""Sentences under a table about what its rows lack, leave out, and differ in."""

from collections.abc import Iterator, Mapping, Sequence

from idlora_pl.report.agreement import unlike_versions, unnamed_scorers
from idlora_pl.report.reasons import is_failure
from idlora_pl.report.scores import ScoreRow, metric_names
from idlora_pl.report.table import Column

Rows = Mapping[str, Sequence[ScoreRow]]


def remarks(columns: Sequence[Column], by_row: Rows) -> Iterator[str]:
    """Give all sentences: columns that no row holds, failures that nothing counts, other versions, unnamed scorers."""
    metrics = [column.metric for column in columns]
    yield from _unmeasured(columns, by_row)
    yield from _unpunished(columns, by_row)
    yield from unlike_versions(by_row, metrics)
    yield from unnamed_scorers(by_row, metrics)


def has_failed(score: ScoreRow, metric: str) -> bool:
    """Say whether a score is missing because of what the clip is like (see `is_failure`)."""
    return score.scores.get(metric) is None and metric in score.reasons and is_failure(score.reasons[metric])


def _unmeasured(columns: Sequence[Column], by_row: Rows) -> Iterator[str]:
    """Where something was scored, but not everything."""
    held = {name for scores in by_row.values() for name in metric_names(scores)}
    for column in columns:
        if held and column.metric not in held:
            yield f"{column.title}: no row holds {column.metric}; `idlora score` with its scorer makes it."


def _unpunished(columns: Sequence[Column], by_row: Rows) -> Iterator[str]:
    """Where a column has no worst value that failures could count as."""
    for column in columns:
        failed = {label: sum(has_failed(score, column.metric) for score in scores) for label, scores in by_row.items()}
        if column.worst is None and (counted := [f"{label} {n}" for label, n in failed.items() if n]):
            yield f"{column.title}: no worst value, so failures are left out of every mean ({', '.join(counted)})."
