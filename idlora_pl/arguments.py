"""The argument parser of `idlora`: what is wrong is said in one line, with the option that was probably meant."""

from __future__ import annotations

import difflib
import re
import sys
from typing import NoReturn

from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from idlora_pl import tools

BAD_INPUT = (*tools.BAD_INPUT, MisconfigurationException)
"""As of the tools, and what Lightning says of settings."""

_UNKNOWN = re.compile(r"(?:unrecognized arguments: --|does not accept option ')([\w.]+)")


class OneLineParser(LightningArgumentParser):
    """LightningCLI's parser, without a page of usage before each error."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one line and exit with status 2."""
        parser = getattr(ex, "subcommand_parser", None) or self
        command = " ".join(["idlora", *parser.prog.replace(" [options]", "").split()[1:]])
        known = [option.lstrip("-") for action in parser._actions for option in action.option_strings]
        print(f"idlora: {_sentence(message, known)}; `{command} --help` lists the options", file=sys.stderr)
        sys.exit(2)


def sentence(error: Exception) -> str:
    """Say in one line what is wrong with the input; Lightning's and torch's own errors get the fix added."""
    line = " ".join(str(error).split())
    if isinstance(error, MisconfigurationException):
        line = line.rstrip(".")
        return f"the trainer cannot run with these settings ({line}); correct them, as with --trainer.accelerator=cpu"
    return line


def _sentence(message: str, known: list[str]) -> str:
    """Put a message on one line and add the nearest of the known names to an unknown one.

    Example:
        >>> _sentence("unrecognized arguments: --model.lora.rang=3", ["model.lora.rank", "model.seed"])
        'unrecognized arguments: --model.lora.rang=3; did you mean model.lora.rank?'
    """
    line = " ".join(message.split())
    unknown = _UNKNOWN.search(line)
    near = difflib.get_close_matches(unknown[1], known, n=1, cutoff=0.5) if unknown else []
    return f"{line}; did you mean {near[0]}?" if near else line
