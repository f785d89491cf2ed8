"""``scores.jsonl``: one line per clip and row, appended whole or not at all. Every table is made from it."""

import fcntl
import json
import math
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_NAMED = ("key", "row", "speaker", "seed", "reasons")


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one clip in one row of a table.

    Attributes:
        key: Name of the test item; the same in all rows.
        row: Row of the table, such as ``negative``.
        speaker: Who speaks; clips of one speaker are one cluster in the statistics.
        seed: Seed of the generation; None for real clips. Several seeds of one key are repeats.
        scores: Value by metric, None where there is none.
        reasons: Reason code by metric, for the missing ones.
        notes: Any other text by name. ``clip`` and ``reference`` are paths relative to the file.
    """

    key: str
    row: str
    speaker: str
    seed: int | None = None
    scores: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a value that is not a number, and a missing one without a reason."""
        for name, value in self.scores.items():
            if value is not None and not math.isfinite(value):
                raise ValueError(f"clip '{self.key}', row '{self.row}': {name} is {value}; write None and a reason")
            if value is None and name not in self.reasons:
                raise ValueError(f"clip '{self.key}', row '{self.row}': {name} is missing without a reason code")
        if clash := (self.scores.keys() | self.notes.keys()) & set(_NAMED) or self.scores.keys() & self.notes.keys():
            raise ValueError(f"clip '{self.key}', row '{self.row}': {sorted(clash)} named twice; rename the metric")

    def to_json(self) -> str:
        """Return the row as one line of JSON, without the line end."""
        named = {"key": self.key, "row": self.row, "speaker": self.speaker, "seed": self.seed}
        return json.dumps(named | self.notes | self.scores | {"reasons": self.reasons}, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> "ScoreRow":
        """Parse one line; numbers and nulls are scores, other text is a note.

        Raises:
            ValueError: The line is not a row; the message says why.
        """
        row = json.loads(line)
        if not isinstance(row, dict) or not {"key", "row", "speaker"} <= row.keys():
            raise ValueError("a row needs the keys key, row and speaker")
        rest = {name: value for name, value in row.items() if name not in _NAMED}
        if bad := [name for name, value in rest.items() if not isinstance(value, int | float | str | None)]:
            raise ValueError(f"{bad[0]} must be a number, null or text; got {rest[bad[0]]!r}")
        return cls(
            key=str(row["key"]),
            row=str(row["row"]),
            speaker=str(row["speaker"]),
            seed=row.get("seed"),
            scores={k: v if v is None else float(v) for k, v in rest.items() if not isinstance(v, str)},
            reasons=row.get("reasons", {}),
            notes={name: value for name, value in rest.items() if isinstance(value, str)},
        )


def append_scores(path: Path, rows: Iterable[ScoreRow]) -> None:
    """Append rows to ``scores.jsonl``; safe against a crash and against other processes that append.

    The rows go out in one write under a lock. A half line that a killed writer has left is cut off first.
    """
    text = "".join(row.to_json() + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def read_scores(path: Path) -> list[ScoreRow]:
    """Read ``scores.jsonl``.

    A half line at the end, which a killed writer leaves, is left out with a warning.

    Raises:
        ValueError: The file is missing or empty, a line is not a row, or a clip of a row stands there twice.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist; `idlora test` writes it")
    rows: list[ScoreRow] = []
    seen: dict[tuple[str, str, int | None], int] = {}
    lines = path.read_text().split("\n")
    if lines.pop():
        warnings.warn(f"{path}: the last line is cut off and left out; score that clip again", stacklevel=2)
    for number, line in enumerate(lines, start=1):
        try:
            row = ScoreRow.from_json(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        first = seen.setdefault((row.row, row.key, row.seed), number)
        if first != number:
            raise ValueError(
                f"{path}: clip '{row.key}' of row '{row.row}', seed {row.seed}, stands in lines {first} and "
                f"{number}; delete one"
            )
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} holds no scores; run `idlora test` again")
    return rows


def row_names(scores: Sequence[ScoreRow]) -> list[str]:
    """Return the names of the rows in order of appearance."""
    return list(dict.fromkeys(score.row for score in scores))


def metric_names(scores: Sequence[ScoreRow]) -> list[str]:
    """Return the names of the metrics in order of appearance."""
    return list(dict.fromkeys(name for score in scores for name in score.scores))
