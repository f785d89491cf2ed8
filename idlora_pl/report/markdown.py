"""A table as Markdown."""

import re
from collections.abc import Iterable, Sequence

from idlora_pl.report.render import DASH, blocks, cell_text, count_text, notes
from idlora_pl.report.sheet import Sheet
from idlora_pl.report.table import Row, Table

_MARKED = re.compile(r"[\\`*_<~|]|&(?=#?\w+;)|(?<=\])\(")
_CODE = re.compile(r"(`[^`]+`)")


def markdown_text(text: str) -> str:
    r"""Escape text for a cell or a line of Markdown.

    Example:
        >>> print(markdown_text("a_b | <c>"))
        a\_b \| \<c>
    """
    return _MARKED.sub(r"\\\g<0>", " ".join(text.split()))


def markdown_note(text: str) -> str:
    """Escape a sentence; what stands between backticks in it stays code."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(part if place % 2 else _MARKED.sub(r"\\\g<0>", part) for place, part in enumerate(parts))


def sheet_markdown(sheet: Sheet) -> list[str]:
    """Return the lines of one table."""
    lines = [f"**{markdown_text(sheet.title)}**", ""] if sheet.title else []
    return [*lines, _line(map(markdown_text, sheet.heads)), _line(["---"] * len(sheet.heads)), *_body(sheet)]


def _body(sheet: Sheet) -> list[str]:
    return [_line(map(markdown_text, line)) for line in sheet.lines]


def document(sheets: Sequence[Sheet], said: Sequence[str]) -> str:
    """Return tables below each other, with notes."""
    lines = [line for sheet in sheets for line in [*sheet_markdown(sheet), ""]]
    return "\n".join([*lines, *(f"- {markdown_note(note)}" for note in said)]) + "\n"


def to_markdown(table: Table) -> str:
    """Return the table as Markdown, with the paired block and the notes."""
    heads = ["row", *(column.heading for column in table.columns), "n"]
    lines = [f"**{markdown_text(table.caption)}**", ""] if table.caption else []
    lines += [_line(map(markdown_text, heads)), _line(["---"] * len(heads))]
    lines += [_row(table, row) for row in table.rows]
    return "\n".join([*lines, "", document(blocks(table), notes(table))])


def _row(table: Table, row: Row) -> str:
    cells = [markdown_text(cell_text(table, row, column)) for column in table.columns]
    if row.quoted is not None:
        cells = [cell if cell == DASH else f"*{cell}*" for cell in cells]
    return _line([markdown_text(row.label), *cells, count_text(table, row)])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
