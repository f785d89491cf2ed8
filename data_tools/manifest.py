"""Lists of clips and pairs between the tools: one JSON object per line; paths are relative to the list."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from idlora_pl.files import read_json_lines, write_json_lines

Row = dict[str, Any]


class RejectedError(Exception):
    """An item that is left out: a reason code and what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep reason and detail."""
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def read_rows(path: Path, required: Iterable[str]) -> list[Row]:
    """Read a list whose rows must have the keys `required`.

    Raises:
        ValueError: when the file is missing or empty, or a line is not such a row.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give the list that the tool before this one wrote")
    rows: list[Row] = []
    for number, row in read_json_lines(path):
        missing = [key for key in required if key not in row]
        if missing:
            raise ValueError(f"{path}, line {number} lacks '{missing[0]}'; write the list again")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} lists nothing; see the list of rejected items beside it for the reasons")
    return rows


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a list; it appears under its name only when it is complete."""
    write_json_lines(path, rows)


def located(list_path: Path, path: str) -> Path:
    """Return where a path of a list is."""
    return list_path.parent / path


def relative_to(list_path: Path, path: Path) -> str:
    """Return `path` as it is written into a list."""
    return os.path.relpath(path, list_path.parent)
