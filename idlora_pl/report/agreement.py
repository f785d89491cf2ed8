"""Which rows may stand in one table: the same clips of the same speakers, each column measured by one instrument.

What rows lack or differ in, as in the version of a package, is said in sentences under the table.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from idlora_pl.report.table import Table
from idlora_pl.results.row import DOUBTS, ScoreRow, is_failure
from idlora_pl.results.scores_file import metric_names

_SHORT = 12
"""Digits of a hash that are printed."""

Made = tuple[str, str]
"""Scorer and the hash of its weights."""


def refuse_unlike_rows(by_row: Mapping[str, Sequence[ScoreRow]], metrics: Iterable[str]) -> None:
    """Refuse rows that cannot be compared.

    Args:
        by_row: Scores by row.
        metrics: The columns.

    Raises:
        ValueError: Rows are measured on different clips, name different speakers of one clip, or a column was made
            by several scorers or with several weights.
    """
    measured = {label: scores for label, scores in by_row.items() if scores}
    _check_same_clips(measured)
    _check_same_speakers(measured)
    for metric in metrics:
        _check_same_scorer(measured, metric)


def _check_same_clips(by_row: Mapping[str, Sequence[ScoreRow]]) -> None:
    keys = {label: {score.key for score in scores} for label, scores in by_row.items()}
    for label, clips in keys.items():
        first = next(iter(keys))
        if clips != keys[first]:
            raise ValueError(
                f"rows '{first}' and '{label}' are measured on different clips: {len(keys[first])} and "
                f"{len(clips)}, {len(clips & keys[first])} of them shared; score both on the same clips"
            )


def _check_same_speakers(by_row: Mapping[str, Sequence[ScoreRow]]) -> None:
    first: dict[str, tuple[str, str]] = {}
    for label, scores in by_row.items():
        for score in scores:
            row, speaker = first.setdefault(score.key, (label, score.speaker))
            if speaker != score.speaker:
                raise ValueError(
                    f"clip '{score.key}' is of speaker '{speaker}' in row '{row}' and of '{score.speaker}' in row "
                    f"'{label}'; correct the manifest and score the wrong row with `idlora score --again all`"
                )


def _check_same_scorer(by_row: Mapping[str, Sequence[ScoreRow]], metric: str) -> None:
    """Scores that name no scorer, as those of older files, are left to `unnamed_scorers`."""
    rows: dict[Made, list[str]] = {}
    for label, scores in by_row.items():
        for made in dict.fromkeys(_made(score, metric) for score in scores):
            if made is not None:
                rows.setdefault(made, []).append(label)
    if len(rows) > 1:
        named = [f"{', '.join(labels)} by {name}, weights {_short(digest)}" for (name, digest), labels in rows.items()]
        raise ValueError(
            f"column {metric}: rows are measured by different instruments, which cannot be compared "
            f"({'; '.join(named)}); score them with one of these: `idlora score ... --again all`"
        )


def _made(score: ScoreRow, metric: str) -> Made | None:
    """Return what made a score of a clip; None where nothing is said."""
    return next(
        ((name, facts.weights) for name, facts in score.scorers.items() if metric in facts.scores),
        None,
    )


def _short(digest: str) -> str:
    return digest[:_SHORT] or "unnamed"


def unlike_versions(by_row: Mapping[str, Sequence[ScoreRow]], metrics: Iterable[str]) -> list[str]:
    """Return one sentence for each difference in version between rows, with the columns that it concerns."""
    concerned: dict[tuple[str, str], list[str]] = {}
    for metric in metrics:
        for package, rows in sorted(_rows_by_version(by_row, metric).items()):
            if len(rows) > 1:
                named = "; ".join(f"{', '.join(labels)} with {versions}" for versions, labels in rows.items())
                concerned.setdefault((package, named), []).append(metric)
    return [
        f"{', '.join(names)}: rows are scored with different versions of {package} ({named})."
        for (package, named), names in concerned.items()
    ]


def _rows_by_version(by_row: Mapping[str, Sequence[ScoreRow]], metric: str) -> dict[str, dict[str, list[str]]]:
    """Return the rows by version by package."""
    found: dict[str, dict[str, list[str]]] = {}
    for label, scores in by_row.items():
        facts = [made for score in scores if (made := score.facts(metric)) is not None]
        for package in {name for made in facts for name in made.versions}:
            versions = " and ".join(sorted({made.versions[package] for made in facts if package in made.versions}))
            found.setdefault(package, {}).setdefault(versions, []).append(label)
    return found


def unnamed_scorers(by_row: Mapping[str, Sequence[ScoreRow]], metrics: Iterable[str]) -> list[str]:
    """Return one sentence for each column of which only some rows say what made it."""
    said = []
    for metric in metrics:
        held = {label: [s for s in scores if metric in s.scores] for label, scores in by_row.items()}
        silent = [label for label, scores in held.items() if any(s.facts(metric) is None for s in scores)]
        if silent and any(s.facts(metric) is not None for scores in held.values() for s in scores):
            said.append(f"{metric}: {', '.join(silent)} does not say which scorer and weights made it.")
    return said


def mixed_versions(scores: Sequence[ScoreRow]) -> tuple[str, ...]:
    """Return one sentence for each row and package of which the same scorer used several versions.

    Clips whose lines do not name the package, as those of older versions, are left out.
    """
    counts: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for score in scores:
        for scorer, facts in score.scorers.items():
            for package, version in facts.versions.items():
                counts[score.row, package, scorer][version] += 1
    scorers: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for (row, package, scorer), found in counts.items():
        if len(found) > 1:
            shown = " and ".join(f"{version} ({n})" for version, n in sorted(found.items()))
            scorers[row, package, shown].append(scorer)
    return tuple(
        f"{row}: {', '.join(names)} scored its clips with {package} {shown}; `idlora score --again all` scores them "
        "with one version."
        for (row, package, shown), names in scorers.items()
    )


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
