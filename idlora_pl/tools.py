"""The subcommands of `idlora` that need no trainer; each is loaded when it is asked for."""

import sys
from importlib import import_module
from pickle import UnpicklingError

TOOLS = {
    "adapter": "idlora_pl.adapter_tool:adapter",
    "calibrate": "idlora_pl.report.calibration.tool:calibrate",
    "doctor": "idlora_pl.scorers.tool:doctor",
    "manifest": "idlora_pl.data.manifest_tool:manifest",
    "parity": "idlora_pl.parity.command:main",
    "score": "idlora_pl.evaluation.tool:score",
    "study": "idlora_pl.study.tool:study",
    "table": "idlora_pl.table_tool:table",
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
