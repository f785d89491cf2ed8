"""Sentences under a table about what its rows lack or differ in."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from idlora_pl.report.agreement import unlike_versions, unnamed_scorers
from idlora_pl.report.mixed import mixed_versions
from idlora_pl.report.table import Table
from idlora_pl.results.row import DOUBTS, is_failure
from idlora_pl.results.scores_file import ScoreRow, metric_names


def remarks_of(table: Table, scores: Sequence[ScoreRow], by_row: Mapping[str, Sequence[ScoreRow]]) -> Iterator[str]:
    """Yield them; `by_row` holds the scores of the rows of the table."""
    metrics = [column.metric for column in table.columns]
    yield from _unmeasured(table, scores)
    yield from _unpunished(table, by_row)
    yield from _unlike_seeds(table, by_row)
    yield from _doubtful_lags(table, by_row)
    yield from _perhaps_copied(metrics)
    held = {metric for found in by_row.values() for score in found for metric in score.scores}
    yield from (f"{column.title}: {column.note}" for column in table.columns if column.note and column.metric in held)
    yield from unlike_versions(by_row, metrics)
    yield from unnamed_scorers(by_row, metrics)
    yield from mixed_versions([score for found in by_row.values() for score in found])


def _unmeasured(table: Table, scores: Sequence[ScoreRow]) -> Iterator[str]:
    """Say which columns no row of ours holds, where there are such rows."""
    held = set(metric_names([score for score in scores if score.row in {row.label for row in table.rows}]))
    for column in table.columns:
        if held and column.metric not in held:
            yield f"{column.title}: no row holds {column.metric}; `idlora score` with its scorer makes it."


def _unpunished(table: Table, by_row: Mapping[str, Sequence[ScoreRow]]) -> Iterator[str]:
    """Say where failures are left out because a column has no worst value."""
    for column in table.columns:
        failed = {label: sum(has_failed(s, column.metric) for s in scores) for label, scores in by_row.items()}
        if column.worst is None and (counted := [f"{label} {n}" for label, n in failed.items() if n]):
            yield f"{column.title}: no worst value, so failures are left out of every mean ({', '.join(counted)})."


def _unlike_seeds(table: Table, by_row: Mapping[str, Sequence[ScoreRow]]) -> Iterator[str]:
    """Say where rows average over unequal numbers of seeds; real clips, which have none, are left out."""
    counts: dict[str, tuple[int, int]] = {}
    for label, scores in by_row.items():
        found = Counter(score.key for score in scores if score.seed is not None)
        if found:
            counts[label] = (min(found.values()), max(found.values()))
    if len({ends for pair in counts.values() for ends in pair}) > 1:
        shown = {label: f"{low}" + (f" to {high}" if high > low else "") for label, (low, high) in counts.items()}
        named = ", ".join(f"{label} {text}" for label, text in shown.items())
        yield (
            f"Unequal numbers of seeds a clip ({named}): means over more seeds scatter less, so intervals and failures "
            "of these rows are not of one kind; generate the same number for each."
        )


def _doubtful_lags(table: Table, by_row: Mapping[str, Sequence[ScoreRow]]) -> Iterator[str]:
    """Count the lags that may be none: at the edge of the search, or with a correlation that chance gives."""
    for column in table.columns:
        for why in DOUBTS:
            parts = []
            for label, scores in by_row.items():
                valued = [score for score in scores if score.scores.get(column.metric) is not None]
                if n := sum(why in score.doubt(column.metric) for score in valued):
                    parts.append(f"{label} {n} of {len(valued)}")
            if parts:
                yield f"{column.title}: values {why} may be no lags; they are marked ({', '.join(parts)})."


def _perhaps_copied(metrics: Sequence[str]) -> Iterator[str]:
    """Warn of the similarity of the nano world where nothing beside it tells a voice from a copied recording."""
    if "speaker_similarity" in metrics and "reference_word_leak" not in metrics:
        yield (
            "speaker similarity stands without reference_word_leak, so a reference that is played back would count as "
            "likeness (docs/nano.md); score with `--scorers nano` and show both."
        )


def has_failed(score: ScoreRow, metric: str) -> bool:
    """Say whether a clip has no value of a score, and is itself to blame."""
    return score.scores.get(metric) is None and metric in score.reasons and is_failure(score.reasons[metric])
