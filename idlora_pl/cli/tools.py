"""The subcommands of `idlora` that need no trainer; each is loaded when it is asked for."""

import sys
from importlib import import_module
from pickle import UnpicklingError

TOOLS = {
    "adapter": "idlora_pl.cli.adapter:adapter",
    "doctor": "idlora_pl.cli.doctor:doctor",
    "manifest": "idlora_pl.cli.manifest:manifest",
    "parity": "idlora_pl.cli.parity:main",
    "score": "idlora_pl.cli.score:score",
    "study": "idlora_pl.cli.study:study",
    "table": "idlora_pl.cli.table:table",
}
"""Module and function of each."""

BAD_INPUT = (ValueError, FileNotFoundError, IsADirectoryError, UnpicklingError)
"""What a command ends with in a sentence; every other error is ours and shows its traceback."""


def run_tool(name: str, arguments: list[str]) -> None:
    """Run a tool; bad input ends in one sentence and a non-zero exit status."""
    module, _, function = TOOLS[name].partition(":")
    try:
        getattr(import_module(module), function)(arguments)
    except BAD_INPUT as error:
        sys.exit(f"idlora: {' '.join(str(error).split())}")
