"""Run every case of a folder: one row a case, whatever happens in it; the rows as a table and as a JSON file."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from idlora_pl.files import replacing
from idlora_pl.parity.adapters import check_adapter_file, check_adapter_keymap, check_weights
from idlora_pl.parity.cases import Case, CaseError, read_case
from idlora_pl.parity.findings import Difference, Findings
from idlora_pl.parity.forward import check_contrast, check_forward, check_perturbed
from idlora_pl.parity.numbers import (
    check_connectors,
    check_log_mel,
    check_positions,
    check_sigmas,
    check_timestep_sampler,
)
from idlora_pl.parity.sampling import check_high_quality, check_sampler
from idlora_pl.parity.training import check_stored_dtypes, check_train_step

CHECKS: dict[str, Callable[[Findings], None]] = {
    "weights": check_weights,
    "forward": check_forward,
    "perturbed_forward": check_perturbed,
    "connectors": check_connectors,
    "adapter_file": check_adapter_file,
    "adapter_keymap": check_adapter_keymap,
    "train_step": check_train_step,
    "train_inputs_stored_dtypes": check_stored_dtypes,
    "sampler": check_sampler,
    "sampler_hq_and_stage2": check_high_quality,
    "positions": check_positions,
    "sigmas": check_sigmas,
    "timestep_sampler": check_timestep_sampler,
    "log_mel": check_log_mel,
    "contrast": check_contrast,
}
"""What is compared for each kind of case."""

Status = Literal["pass", "fail", "information", "not understood"]

# What our own code and the libraries raise on inputs that do not fit together.
_MISFITS = (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError, AttributeError, OSError)


@dataclass(frozen=True)
class Row:
    """What came out of one case.

    Attributes:
        name: the case.
        kind: what kind it is, "" where that cannot be read.
        layout: its layout, "" where it has none.
        status: "information" where agreement is not expected.
        differences: one a compared tensor or field.
        remarks: sentences that cannot make a case fail.
        not_compared: tensors that no check reads.
        reason: why the case cannot be understood; names file and field.
        file: the file that cannot be understood.
        field: the field of its JSON, or the tensor.
    """

    name: str
    kind: str
    layout: str
    status: Status
    differences: tuple[Difference, ...] = ()
    remarks: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()
    reason: str = ""
    file: str = ""
    field: str = ""

    @property
    def worst(self) -> Difference | None:
        """The largest absolute difference; in a case that fails, the one that is furthest over its bound."""
        if over := [one for one in self.differences if not one.passes]:
            return max(over, key=lambda one: one.used)
        return max(self.differences, key=lambda one: (not one.relative, one.error), default=None)


def run_folder(folder: Path) -> Iterator[Row]:
    """Run the cases of a folder in the order of their names.

    Raises:
        FileNotFoundError: when there is no such folder, or no case in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; give one that holds golden cases (NAME.json)")
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no golden case; a case is NAME.json beside NAME.safetensors")
    return _rows(folder, paths)


def _rows(folder: Path, paths: list[Path]) -> Iterator[Row]:
    named = {path.with_suffix(".safetensors").name for path in paths}
    for path in paths:
        yield run_case(path)
        named |= _files_named_in(path)
    for path in sorted(folder.glob("*.safetensors")):
        if path.name not in named:
            error = CaseError(path.name, path.with_suffix(".json").name, "is missing beside it, and no case names it")
            yield _not_understood(path.stem, "", "", error)


def run_case(path: Path) -> Row:
    """Run one case; a case that cannot be understood is a row, too."""
    kind, layout = _labels(path)
    try:
        case = read_case(path)
        findings = Findings(case)
        case.choice("kind", CHECKS)
        _run(case, findings)
    except CaseError as error:
        return _not_understood(path.stem, kind, layout, error)
    status: Status = "pass" if all(one.passes for one in findings.differences) else "fail"
    if kind == "contrast":
        status = "information"
    unread = tuple(sorted(case.tensors.keys() - case.used))
    return Row(case.name, kind, layout, status, tuple(findings.differences), tuple(findings.remarks), unread)


def _run(case: Case, findings: Findings) -> None:
    try:
        CHECKS[case.kind](findings)
    except CaseError:
        raise
    except _MISFITS as error:
        message = " ".join(str(error).split())
        raise case.wrong(case.kind, f"cannot be computed from these fields and tensors: {message}") from error
    if not findings.differences and not findings.remarks:
        raise case.wrong("tensors", "holds nothing that could be compared")


def _not_understood(name: str, kind: str, layout: str, error: CaseError) -> Row:
    return Row(name, kind, layout, "not understood", reason=str(error), file=error.file, field=error.field)


def _labels(path: Path) -> tuple[str, str]:
    """Return kind and layout for the table, whatever they are."""
    fields = _fields(path)
    return str(fields.get("kind", "")), str(fields.get("layout", ""))


def _files_named_in(path: Path) -> set[str]:
    fields = _fields(path)
    return {str(fields[name]) for name in ("weights", "model_weights", "lora") if name in fields}


def _fields(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


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
