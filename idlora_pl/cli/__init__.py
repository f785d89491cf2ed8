"""The `idlora` command: a table of all commands, tools, and Lightning's fit, validate, test and predict."""

from __future__ import annotations

import difflib
import os
import sys
from importlib import import_module

from rich.console import Console
from rich.table import Table
from rich.text import Text

from idlora_pl.cli.tools import COMMANDS, TOOLS, run_tool


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; bad input ends in one sentence and a non-zero exit status.

    Args:
        arguments: For calls from Python; None takes those of the process.
    """
    given = sys.argv[1:] if arguments is None else arguments
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not given or given[0] in ("-h", "--help"):
        _print_commands()
        sys.exit(0 if given else 2)
    if not given[0].startswith("-") and given[0] not in COMMANDS:
        print(f"idlora: {_unknown(given[0])}", file=sys.stderr)
        sys.exit(2)
    if given[0] in TOOLS:
        run_tool(given[0], given[1:])
    else:
        # Lightning takes seconds to load, which no tool should wait for
        import_module("idlora_pl.cli.lightning").run(arguments)


def _print_commands() -> None:
    """Print every command with one line."""
    title = Text("usage: idlora COMMAND [options]")
    table = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left")
    for heading in ("", "command", "what it does"):
        table.add_column(heading)
    group = ""
    for name, command in COMMANDS.items():
        if group and command.group != group:
            table.add_row()
        table.add_row("" if command.group == group else f"[bold]{command.group}", f"[cyan]{name}", command.what)
        group = command.group
    console = Console()
    console.print(table)
    console.print("\n`idlora COMMAND --help` lists the options of a command.", highlight=False)


def _unknown(command: str) -> str:
    """Say that there is no such command, and which there are.

    Example:
        >>> _unknown("tabel")
        "there is no command 'tabel', did you mean table? It has fit, validate, test, predict, ..., manifest, parity"
    """
    near = difflib.get_close_matches(command, COMMANDS, n=1)
    listed = ", ".join(COMMANDS)
    return f"there is no command {command!r}{f', did you mean {near[0]}?' if near else '.'} It has {listed}"
