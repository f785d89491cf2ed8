"""A table for the screen; one that is too wide for it is printed in parts, so that no number is cut off."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from idlora_pl.report.render import blocks, cell_parts, count_text, notes
from idlora_pl.report.sheet import Sheet, fitted
from idlora_pl.report.table import Table


def to_rich(table: Table, width: int | None = None) -> list[RichTable | Text]:
    """Return what a rich console prints: the table, the paired block and the notes.

    Args:
        table: The table.
        width: Characters that fit into a line; None for no limit. Columns that do not fit go into a table below.
    """
    sheets = [_main(table), *blocks(table)]
    shown: list[RichTable | Text] = [part for sheet in sheets for part in fitted(sheet, width)]
    return [*shown, *(Text(note, style="dim") for note in notes(table))]


def show(parts: Iterable[RichTable | Text], console: Console) -> None:
    """Print what `to_rich` returns; the console does not break the notes, so that commands in them can be copied."""
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text), highlight=False)


def _main(table: Table) -> Sheet:
    lines = [
        (
            row.label,
            *("\n".join(cell_parts(table, row, column)) for column in table.columns),
            count_text(table, row),
        )
        for row in table.rows
    ]
    return Sheet(
        ("row", *(column.heading for column in table.columns), "n"),
        tuple(lines),
        table.caption,
        n_left=1,
        n_right=1,
        quoted=frozenset(number for number, row in enumerate(table.rows) if row.quoted is not None),
    )
