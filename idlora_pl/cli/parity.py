"""The command `idlora parity`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

import idlora_pl

PATH_VARIABLE = "MKL_CBWR"
"""MKL reads it once per process; COMPATIBLE is the code path on which float32 results are the same on every CPU."""


def parity(folder: Path, *, json: Path | None = None) -> None:
    """Run our code on every golden case of a folder and print one row a case.

    A case is NAME.json beside NAME.safetensors (docs/parity.md), a row its kind, largest absolute error, bound, pass or
    fail. Exit status: 0 if all pass, 1 if one fails, 2 if one cannot be understood (the message names file and field;
    the others still run). It runs on one CPU thread, and in a process of its own with MKL_CBWR=COMPATIBLE, unless you
    set MKL_CBWR: on other code paths of MKL the float32 exp differs by one unit in the last place, which timesteps up
    to 1000 enlarge from 2e-6 to 1.6e-5.

    Args:
        folder: Folder of golden cases.
        json: Also write every difference to this file.
    """
    if PATH_VARIABLE not in os.environ and torch.backends.mkl.is_available():
        sys.exit(_in_own_process([str(folder), *([] if json is None else [f"--json={json}"])]))
    torch.set_num_threads(1)
    sys.exit(_compare(folder, json))


def _compare(folder: Path, written: Path | None) -> int:
    """Run the cases, print and write the rows, and return the exit status."""
    # the process that only starts another one needs none of the model
    from idlora_pl.parity.run import exit_status, print_rows, run_folder, write_json

    errors = Console(stderr=True)
    try:
        paths = run_folder(folder)
        total = len(list(folder.glob("*.json")))
        rows = list(track(paths, "comparing", total, console=errors, transient=True, disable=not errors.is_terminal))
    except FileNotFoundError as error:
        print(f"idlora: {error}", file=sys.stderr)
        return 2
    print_rows(rows)
    if written is not None:
        write_json(rows, written)
    if unclear := [f"{row.file} '{row.field}'" for row in rows if row.reason]:
        print(f"idlora: cannot understand {', '.join(unclear)}", file=sys.stderr)
    return exit_status(rows)


def _in_own_process(arguments: list[str]) -> int:
    """Run the same command in a process that starts with the variable; return its exit status."""
    root = str(Path(idlora_pl.__file__).parents[1])
    known = os.environ.get("PYTHONPATH")
    environment = os.environ | {
        PATH_VARIABLE: "COMPATIBLE",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([root, *([known] if known else [])]),
    }
    sys.stdout.flush()
    command = [sys.executable, "-P", "-m", "idlora_pl.cli", "parity", *arguments]
    return subprocess.run(command, env=environment).returncode
