"""How a verb runs from the command line and what it prints at its end; bad input ends it with a sentence, status 1."""

import errno
import sys
from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from data_tools.verb.lists import Row
from idlora_pl.cli.command import call


def sentence_of(error: Exception) -> str:
    """Return what to say of an error; a full disk is told with what helps.

    Example:
        >>> sentence_of(OSError(28, "No space left on device"))
        'No space left on device: make room and run the command again'
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        place = f" for {error.filename}" if error.filename else ""
        return f"{error.strerror}{place}: make room and run the command again"
    return str(error) or type(error).__name__


def run(tool: Callable[..., None], arguments: Sequence[str] | None = None) -> None:
    """Run a function with arguments from the command line (or from `arguments`, for tests).

    `idlora_pl.cli.command` says how.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        call(tool, given, prog=tool.__name__)
    except (ValueError, OSError) as error:
        sys.exit(f"{tool.__name__}: {sentence_of(error)}")


def print_summary(title: str, made: str, n_made: int, rejected: Sequence[Row]) -> None:
    """Print a line and a table.

    Args:
        title: the verb and where it wrote.
        made: what it makes, such as "clips".
        n_made: how many.
        rejected: rows with a "reason".
    """
    Console(soft_wrap=True).print(title, highlight=False)
    table = Table("", "count")
    table.add_row(made, str(n_made))
    table.add_section()
    for reason, count in sorted(Counter(str(row["reason"]) for row in rejected).items()):
        table.add_row(f"rejected: {reason}", str(count))
    if not rejected:
        table.add_row("rejected", "0")
    Console().print(table)
