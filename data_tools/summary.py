"""The table that a verb ends with: what was made, and how much was left out for which reason."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from data_tools.manifest import Row


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
