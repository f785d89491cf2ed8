"""The file ``scores.jsonl``: who writes to it holds its lock, so that no line is lost, doubled or mixed."""

import fcntl
import json
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from idlora_pl.files import decoded, locked, replacing
from idlora_pl.report.row import ScoreRow

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
