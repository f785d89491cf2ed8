"""The file ``scores.jsonl``, from which every table is made: one line per clip, row and scorer, whole or not there.

Who writes to it holds its lock, so that no line is lost, doubled or mixed.
"""

import fcntl
import json
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import IO

from idlora_pl.files import decoded, locked, replacing
from idlora_pl.results.row import PATHS, ScorerFacts, ScoreRow

_TAIL_BYTES = 1 << 16


def append_scores(path: Path, rows: Iterable[ScoreRow]) -> None:
    """Append rows to ``scores.jsonl``; safe against a crash and against other processes that write.

    The lines go out in one write under a lock. A half line that a killed writer has left is cut off first; a whole one
    that only lacks its line end gets it.
    """
    with _writing(path):
        _append(path, rows)


def replace_scores(path: Path, rows: Sequence[ScoreRow]) -> None:
    """Append rows after the lines were removed that hold the same scores of the same clip, row and seed.

    For what is generated anew in an old folder. Lines that cannot be parsed stay for `read_scores` to name.
    """
    new: dict[tuple[str, str, int | None], set[str]] = {}
    for row in rows:
        new.setdefault((row.row, row.key, row.seed), set()).update(row.scores or [""])

    def is_old(line: ScoreRow) -> bool:
        return bool(new.get((line.row, line.key, line.seed), set()) & set(line.scores or [""]))

    with _writing(path):
        if path.is_file():
            _drop(path, is_old, strict=False)
        _append(path, rows)


def drop_scores(path: Path, drop: Callable[[ScoreRow], bool]) -> int:
    """Remove the lines for which `drop` (given the row of the one line) says so; return how many they were.

    The file is written beside itself and then replaced; others that write wait meanwhile.
    """
    with _writing(path):
        return _drop(path, drop)


def lines_of(path: Path) -> list[tuple[int, str]]:
    """Return number (from 1) and text of the whole lines of a file that others may be writing to, without blank ones.

    The last one may lack its line end.

    Raises:
        ValueError: The file is not UTF-8.
    """
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        lines = decoded(file.read(), str(path)).split("\n")
    last = lines.pop()
    if last and _is_whole(last):
        lines.append(last)
    elif last.strip():
        warnings.warn(f"{path}: the last line is cut off and left out; score that clip again", stacklevel=3)
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _is_whole(line: str | bytes) -> bool:
    """Say whether a line without an end is an object all the same: no object is whole before its last brace."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def read_lines(path: Path) -> list[ScoreRow]:
    """Return every line as a row of its own; raises ValueError where one is damaged."""
    return [parsed(path, number, line) for number, line in lines_of(path)]


def parsed(path: Path, number: int, line: str) -> ScoreRow:
    """Parse a line; an error names its place."""
    try:
        return ScoreRow.from_line(line)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: {error}") from error


def _writing(path: Path) -> AbstractContextManager[None]:
    """Hold the lock of a file; it is not the file itself, which may be replaced by another under its name."""
    return locked(path.with_name(f".{path.name}.lock"))


def _append(path: Path, rows: Iterable[ScoreRow]) -> None:
    text = "".join(line + "\n" for row in rows for line in row.to_lines())
    with open(path, "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # readers take this one
        _end_last_line(file)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _end_last_line(file: IO[bytes]) -> None:
    """Give the last line its end where it is whole, and cut it off where it is not."""
    end = start = file.seek(0, os.SEEK_END)
    tail = b""
    while start and b"\n" not in tail:
        size = min(_TAIL_BYTES, start)
        start = file.seek(start - size)
        tail = file.read(size) + tail
    last = tail[tail.rfind(b"\n") + 1 :]
    if last and _is_whole(last):
        file.write(b"\n")
    else:
        file.truncate(end - len(last))
    file.seek(0, os.SEEK_END)


def _drop(path: Path, drop: Callable[[ScoreRow], bool], *, strict: bool = True) -> int:
    """Rewrite a file whose lock is held without some lines; a bad line is an error, or else it stays."""
    kept, dropped = [], 0
    for number, line in lines_of(path):
        try:
            goes = drop(parsed(path, number, line))
        except ValueError:
            if strict:
                raise
            goes = False
        dropped += goes
        kept += [] if goes else [line + "\n"]
    if dropped:
        with replacing(path) as partial:
            partial.write_text("".join(kept), encoding="utf-8")
    return dropped


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
