"""``scores.jsonl``: one line per clip, row and scorer, appended whole or not at all. Every table is made from it."""

import fcntl
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from idlora_pl.report.row import PATHS, ScorerFacts, ScoreRow

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
    "row_names",
]

Name = tuple[str, str, int | None]
_SAME_FILE = ("clip_sha256", "item_sha256")
_TAIL_BYTES = 1 << 16


def append_scores(path: Path, rows: Iterable[ScoreRow]) -> None:
    """Append rows to ``scores.jsonl``; safe against a crash and against other processes that append.

    The lines go out in one write under a lock. A half line that a killed writer has left is cut off first.
    """
    text = "".join(line + "\n" for row in rows for line in row.to_lines())
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _cut_half_line(file)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _cut_half_line(file: IO[bytes]) -> None:
    """Cut off what stands behind the last line end."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _TAIL_BYTES)
        file.seek(start)
        whole = file.read(end - start).rfind(b"\n") + 1
        if whole or not start:
            file.truncate(start + whole)
            break
        end = start
    file.seek(0, os.SEEK_END)


def drop_scores(path: Path, drop: Callable[[ScoreRow], bool]) -> int:
    """Remove the lines for which `drop` (given the row of the one line) says so; return how many they were.

    The file is written beside itself and then replaced; no other process may append meanwhile.
    """
    kept, dropped = [], 0
    for number, line in enumerate(_lines(path), start=1):
        if drop(_parsed(path, number, line)):
            dropped += 1
        else:
            kept.append(line + "\n")
    if dropped:
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.write_text("".join(kept))
        os.replace(partial, path)
    return dropped


def read_scores(path: Path) -> list[ScoreRow]:
    """Read ``scores.jsonl``; the lines of one clip, row and seed become one row.

    A half line at the end, which a killed writer leaves, is left out with a warning.

    Raises:
        ValueError: The file is missing or empty, a line is not a row, a score of a clip stands there twice, lines
            of one clip were measured on different files, or a scorer used different weights within a row.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist; `idlora test` and `idlora score` write it")
    merged: dict[Name, ScoreRow] = {}
    seen: dict[tuple[Name, str], int] = {}
    for number, line in enumerate(_lines(path), start=1):
        row = _parsed(path, number, line)
        name = (row.row, row.key, row.seed)
        for score in row.scores or [""]:
            first = seen.setdefault((name, score), number)
            if first != number:
                what = f"{score} of clip" if score else "clip"
                raise ValueError(
                    f"{path}: {what} '{row.key}' of row '{row.row}', seed {row.seed}, stands in lines {first} and "
                    f"{number}; delete one"
                )
        merged[name] = _joined(merged[name], row, f"{path}, line {number}") if name in merged else row
    if not merged:
        raise ValueError(f"{path} holds no scores; run `idlora test` or `idlora score` again")
    rows = list(merged.values())
    refuse_mixed_weights(rows, str(path))
    return rows


def _lines(path: Path) -> list[str]:
    """Return the whole lines of a file that others may be writing to."""
    with open(path, encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        lines = file.read().split("\n")
    if lines.pop():
        warnings.warn(f"{path}: the last line is cut off and left out; score that clip again", stacklevel=3)
    return lines


def _parsed(path: Path, number: int, line: str) -> ScoreRow:
    try:
        return ScoreRow.from_line(line)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: {error}") from error


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
