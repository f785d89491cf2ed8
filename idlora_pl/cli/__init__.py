"""The `idlora` command: the tools of `idlora_pl.cli.tools`, and Lightning's fit, validate, test and predict."""

from __future__ import annotations

import difflib
import os
import sys
from importlib import import_module

import torch

from idlora_pl.cli.tools import TOOLS, run_tool
from idlora_pl.distributed import close_at_exit

TRAINER = ("fit", "validate", "test", "predict")
"""The commands that are Lightning's."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; bad input ends in one sentence and a non-zero exit status.

    Args:
        arguments: For calls from Python; None takes those of the process.
    """
    given = sys.argv[1:] if arguments is None else arguments
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if given and not given[0].startswith("-") and given[0] not in (*TRAINER, *TOOLS):
        print(f"idlora: {_unknown(given[0])}", file=sys.stderr)
        sys.exit(2)
    close_at_exit()
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    if given and given[0] in TOOLS:
        run_tool(given[0], given[1:])
    else:
        # Lightning takes seconds to load, which no tool should wait for
        import_module("idlora_pl.cli.lightning").run(arguments)


def _unknown(command: str) -> str:
    """Say that there is no such command, and which there are.

    Example:
        >>> _unknown("tabel")
        "there is no command 'tabel', did you mean table? It has fit, validate, test, predict, ..., study, table"
    """
    known = (*TRAINER, *TOOLS)
    near = difflib.get_close_matches(command, known, n=1)
    return f"there is no command {command!r}{f', did you mean {near[0]}?' if near else '.'} It has {', '.join(known)}"
