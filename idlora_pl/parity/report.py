"""The rows of a run as a table on screen and as a JSON file."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from idlora_pl.files import replacing
from idlora_pl.parity.findings import Difference
from idlora_pl.parity.run import Row, Status

_STYLES = {"pass": "green", "fail": "bold red", "information": "cyan", "not understood": "bold magenta"}
_WIDTH = 240
"""Columns of the table where the output is no terminal."""


def exit_status(rows: Sequence[Row]) -> int:
    """Return 0 if all cases pass, 1 if one fails, 2 if one cannot be understood."""
    found = {row.status for row in rows}
    return 2 if "not understood" in found else int("fail" in found)


def print_rows(rows: Sequence[Row]) -> None:
    """Print one row a case, then remarks, what was not compared, what is not understood, and a count."""
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False, markup=False, soft_wrap=False)
    table = Table("case", "kind", "layout", box=None, padding=(0, 1))
    for title in ("compared", "max abs error", "bound"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("worst", "result"):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*_cells(row), style=_STYLES[row.status] if row.status != "pass" else None)
    console.print(table)
    for row in rows:
        for sentence in _sentences(row):
            console.print(f"{row.name}: {sentence}", soft_wrap=True)
    counts = Counter(row.status for row in rows)
    console.print(", ".join(f"{counts[status]} {_COUNTED[status]}" for status in _COUNTED if counts[status]))


_COUNTED: dict[Status, str] = {
    "pass": "passed",
    "information": "for information",
    "fail": "failed",
    "not understood": "not understood",
}


def _cells(row: Row) -> list[str]:
    worst = row.worst
    if row.status == "not understood":
        return [row.name, row.kind, row.layout, "", "", "", row.field, row.status]
    if worst is None:
        return [row.name, row.kind, row.layout, "0", "", "", "", row.status]
    unit = " rel" if worst.relative else ""
    numbers = [str(len(row.differences)), f"{worst.error:.1e}{unit}", f"{worst.bound:.0e}{unit}"]
    return [row.name, row.kind, row.layout, *numbers, worst.name if worst.error else "", row.status]


def _sentences(row: Row) -> list[str]:
    said = list(row.remarks)
    if row.not_compared:
        said.append(f"not compared: {', '.join(row.not_compared)}")
    if row.status == "fail":
        over = [one for one in row.differences if not one.passes]
        shown = ", ".join(f"{one.name} ({one.error:.2g} > {one.bound:.2g})" for one in over[:3])
        said.append(
            f"{len(over)} of {len(row.differences)} over their bound: {shown}{', ...' if len(over) > 3 else ''}"
        )
    if row.reason:
        said.append(row.reason)
    return said


def write_json(rows: Sequence[Row], path: Path) -> None:
    """Write all differences of all cases to a file; a file of that name is replaced when the new one is complete."""
    content = {"exit_status": exit_status(rows), "cases": [_as_json(row) for row in rows]}
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _as_json(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "kind": row.kind,
        "layout": row.layout,
        "status": row.status,
        "max_abs_error": _number(max((one.error for one in row.differences if not one.relative), default=0.0)),
        "worst": None if row.worst is None else _difference(row.worst),
        "reason": row.reason,
        "remarks": list(row.remarks),
        "not_compared": list(row.not_compared),
        "differences": [_difference(one) for one in row.differences],
    }


def _difference(one: Difference) -> dict[str, Any]:
    return {
        "name": one.name,
        "error": _number(one.error),
        "bound": one.bound,
        "relative": one.relative,
        "passes": one.passes,
    }


def _number(value: float) -> float | str:
    """Return a number as JSON knows it; it has no infinity."""
    return value if math.isfinite(value) else str(value)
