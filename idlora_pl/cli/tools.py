"""The commands of `idlora`: what each is for, and where it is; each is loaded when it is asked for."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pickle import UnpicklingError


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        group: What a person wants who looks for it: "train", "measure" or "files".
        what: One line.
        place: Module and function, or its functions by verb; "" for a command of Lightning's.
        has_networks: Whether it runs networks, and torch is set up for it.
    """

    group: str
    what: str
    place: str = ""
    has_networks: bool = False


COMMANDS = {
    "fit": Command("train", "train an adapter on shards; goes on where it stopped"),
    "validate": Command("train", "print the held-out losses of an adapter or a checkpoint"),
    "test": Command("train", "generate the clips of a benchmark and score them"),
    "predict": Command("train", "generate a clip for each prompt of a file"),
    "score": Command("measure", "score clips of any method, into a scores.jsonl", "score:score", has_networks=True),
    "doctor": Command("measure", "say which scorers work here, and measure their anchors", "doctor:doctor", True),
    "table": Command("measure", "print scores with intervals and paired tests; write a page", "table:table"),
    "study": Command("measure", "make a human study, and analyse its answers", "study:VERBS"),
    "adapter": Command("files", "say what an adapter holds; write it for another program", "adapter:adapter"),
    "manifest": Command("files", "make or check the manifest of a benchmark", "manifest:VERBS"),
    "parity": Command("files", "compare this code with the authors' numbers of a folder", "parity:parity"),
}
"""All of them, in the order of `idlora --help`."""

TOOLS = {name: f"idlora_pl.cli.{command.place}" for name, command in COMMANDS.items() if command.place}
"""Module and function (or functions) of those that need no trainer."""

BAD_INPUT = (ValueError, FileNotFoundError, IsADirectoryError, UnpicklingError)
"""What a command ends with in a sentence; every other error is ours and shows its traceback."""


def run_tool(name: str, words: Sequence[str]) -> None:
    """Run a tool; bad input ends in one sentence and a non-zero exit status."""
    if COMMANDS[name].has_networks:
        # torch takes more than a second to load, which the other tools should not wait for
        import_module("idlora_pl.distributed").set_up_torch()
    try:
        call_tool(name, words)
    except BAD_INPUT as error:
        sys.exit(f"idlora: {' '.join(str(error).split())}")


def call_tool(name: str, words: Sequence[str]) -> None:
    """Run a tool; what it raises is passed on."""
    module, _, place = TOOLS[name].partition(":")
    tool = getattr(import_module(module), place)
    # jsonargparse is not needed to list the commands
    command = import_module("idlora_pl.cli.command")
    command.call(tool, words, prog=f"idlora {name}", description=COMMANDS[name].what if isinstance(tool, dict) else "")
