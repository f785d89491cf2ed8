"""``scores.jsonl``: one line per clip, row and scorer, appended whole or not at all. Every table is made from it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from idlora_pl.report.row import PATHS, ScorerFacts, ScoreRow
from idlora_pl.report.scores_file import append_scores, drop_scores, lines_of, parsed, replace_scores

__all__ = [
    "PATHS",
    "ScoreRow",
    "ScorerFacts",
    "append_scores",
    "drop_scores",
    "located",
    "metric_names",
    "read_scores",
    "refuse_mixed_weights",
    "replace_scores",
    "row_names",
]

Name = tuple[str, str, int | None]
_SAME_FILE = ("clip_sha256", "item_sha256")


def read_scores(path: Path) -> list[ScoreRow]:
    """Read ``scores.jsonl``; the lines of one clip, row and seed become one row.

    A half line at the end, which a killed writer leaves, is left out with a warning; a whole one without its line end
    counts.

    Raises:
        ValueError: The file is missing or empty, a line is not a row, a score of a clip stands there twice, lines
            of one clip were measured on different files, or a scorer used different weights within a row.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist; `idlora test` and `idlora score` write it")
    merged: dict[Name, ScoreRow] = {}
    seen: dict[tuple[Name, str], int] = {}
    for number, line in lines_of(path):
        row = parsed(path, number, line)
        name = (row.row, row.key, row.seed)
        for score in row.scores or [""]:
            first = seen.setdefault((name, score), number)
            if first != number:
                what = f"{score} of clip" if score else "clip"
                raise ValueError(
                    f"{path}: {what} '{row.key}' of row '{row.row}', seed {row.seed}, stands in lines {first} and "
                    f"{number}; delete one, or score the row anew with `idlora score --again all`"
                )
        merged[name] = _joined(merged[name], row, f"{path}, line {number}") if name in merged else row
    if not merged:
        raise ValueError(f"{path} holds no scores; run `idlora test` or `idlora score` again")
    rows = list(merged.values())
    refuse_mixed_weights(rows, str(path))
    return rows


def _joined(row: ScoreRow, more: ScoreRow, where: str) -> ScoreRow:
    """Put the scores of one clip together; refuse scores of different files or speakers."""
    about = [("speaker", row.speaker, more.speaker)]
    about += [
        (name, row.notes[name], more.notes[name]) for name in _SAME_FILE if {name} <= row.notes.keys() & more.notes
    ]
    for name, first, second in about:
        if first != second:
            raise ValueError(
                f"{where}: clip '{row.key}' of row '{row.row}' has {name} {second}, an earlier line has {first}; "
                "score that row again with `idlora score --again all`"
            )
    return replace(
        row,
        scores=row.scores | more.scores,
        reasons=row.reasons | more.reasons,
        notes=more.notes | row.notes,
        scorers=row.scorers | more.scorers,
    )


def refuse_mixed_weights(scores: Iterable[ScoreRow], where: str = "scores") -> None:
    """Raise ValueError when a scorer used different weights within one row of a table."""
    first: dict[tuple[str, str], str] = {}
    for row in scores:
        for scorer, facts in row.scorers.items():
            known = first.setdefault((row.row, scorer), facts.weights)
            if known != facts.weights:
                raise ValueError(
                    f"{where}: row '{row.row}' holds scores of {scorer} with weights {known} and {facts.weights}; "
                    "score the row again with one of them"
                )


def row_names(scores: Sequence[ScoreRow]) -> list[str]:
    """Return the names of the rows in order of appearance."""
    return list(dict.fromkeys(score.row for score in scores))


def metric_names(scores: Sequence[ScoreRow]) -> list[str]:
    """Return the names of the metrics in order of appearance."""
    return list(dict.fromkeys(name for score in scores for name in score.scores))


def located(scores: list[ScoreRow], folder: Path) -> list[ScoreRow]:
    """Make the clip paths of scores relative to the current folder instead of to their file."""
    return [
        replace(score, notes={k: str(folder / v) if k in PATHS else v for k, v in score.notes.items()})
        for score in scores
    ]
