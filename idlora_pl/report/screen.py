"""A table for the screen; one that is too wide for it is printed in parts, so that no number is cut off."""

from collections.abc import Iterator, Sequence

from rich.table import Table as RichTable
from rich.text import Text

from idlora_pl.report.render import blocks, cell_parts, count_text, notes
from idlora_pl.report.table import Column, Table

_LABEL_WIDTH = 24
"""Longer labels of rows are broken at spaces when a table is printed in parts."""
_EDGES = 3
"""What borders and padding add to a column."""


def to_rich(table: Table, width: int | None = None) -> list[RichTable | Text]:
    """Return what a rich console prints: the table, the paired block and the notes.

    Args:
        table: The table.
        width: Characters that fit into a line; None for no limit. Columns that do not fit go into a table below.
    """
    shown: list[RichTable | Text] = [_main(table, part) for part in _parts(table, width)]
    for heads, lines in blocks(table):
        block = RichTable()
        for place, head in enumerate(heads):
            block.add_column(head, justify="left" if place < 2 else "right")
        for line in lines:
            block.add_row(*(Text(text) for text in line))
        shown.append(block)
    return [*shown, *(Text(note, style="dim") for note in notes(table))]


def _main(table: Table, columns: Sequence[Column]) -> RichTable:
    main = RichTable(title=table.caption or None)
    main.add_column("row", min_width=min(_LABEL_WIDTH, _longest(row.label for row in table.rows)))
    for column in columns:
        main.add_column(column.heading, justify="right", min_width=_width(table, column))
    main.add_column("n", justify="right", no_wrap=True)
    for row in table.rows:
        cells = [Text("\n".join(cell_parts(table, row, column))) for column in columns]
        style = "italic" if row.quoted is not None else ""
        main.add_row(Text(row.label), *cells, count_text(table, row), style=style)
    return main


def _parts(table: Table, width: int | None) -> Iterator[list[Column]]:
    """Divide the columns into runs that fit beside the labels and the counts; each has at least one column."""
    counts = _longest(count_text(table, row) for row in table.rows)
    edges = min(_LABEL_WIDTH, _longest(row.label for row in table.rows)) + counts + 2 * _EDGES + 1
    part: list[Column] = []
    left = 0 if width is None else width - edges
    for column in table.columns:
        wanted = _width(table, column) + _EDGES
        if part and width is not None and wanted > left:
            yield part
            part, left = [], width - edges
        part.append(column)
        left -= wanted
    yield part


def _width(table: Table, column: Column) -> int:
    """Return how wide a column must be for its numbers, and for the words of its heading."""
    numbers = [part for row in table.rows for part in cell_parts(table, row, column)]
    return _longest([*column.heading.split(), *numbers])


def _longest(texts: Sequence[str] | Iterator[str]) -> int:
    return max((len(text) for text in texts), default=0)
