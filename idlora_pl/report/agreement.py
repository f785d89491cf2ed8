"""Which rows may stand in one table: the same clips of the same speakers, each column measured by one instrument."""

from collections.abc import Iterable, Mapping, Sequence

from idlora_pl.results.scores_file import ScoreRow

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
