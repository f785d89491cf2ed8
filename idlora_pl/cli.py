"""The `idlora` command: the tools of `idlora_pl.tools`, and Lightning's fit, validate, test and predict."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import torch

from idlora_pl.process_group import close_at_exit
from idlora_pl.tools import TOOLS, run_tool


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; bad input ends in one sentence and a non-zero exit status.

    Args:
        arguments: For calls from Python; None takes those of the process.
    """
    given = sys.argv[1:] if arguments is None else arguments
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    close_at_exit()
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    if given and given[0] in TOOLS:
        run_tool(given[0], given[1:])
    else:
        # Lightning takes seconds to load, which no tool should wait for
        import_module("idlora_pl.lightning_cli").run(arguments)


if __name__ == "__main__":
    main()
