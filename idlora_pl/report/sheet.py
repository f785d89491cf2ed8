"""Any table as text: heads and lines, and how it is fitted to a screen or written as Markdown."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.table import Table as RichTable
from rich.text import Text

_LABEL_WIDTH = 24
"""Longer labels are broken at spaces when a sheet is printed in parts."""
_EDGES = 3
"""What borders and padding add to a column."""
_CHUNK = re.compile(r"\[[^\]]*\]|\S+")
"""What is not broken over lines where it can be helped: words, and intervals with their brackets."""


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Attributes:
        heads: What stands above the columns.
        lines: The cells, row by row; a cell may have several lines.
        title: One line above.
        n_left: Columns that name a row; they are set to the left and are repeated in every part.
        n_right: Last columns that are repeated in every part.
        quoted: Numbers of the lines that are set in italics.
    """

    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    title: str = ""
    n_left: int = 2
    n_right: int = 0
    quoted: frozenset[int] = field(default_factory=frozenset)


def fitted(sheet: Sheet, width: int | None = None) -> list[RichTable]:
    """Return what a rich console prints: one table, or several below each other where one is too wide.

    Args:
        sheet: The table.
        width: Characters that fit into a line; None for no limit.
    """
    return [_drawn(sheet, columns, widths) for columns, widths in _parts(sheet, width)]


def _drawn(sheet: Sheet, columns: Sequence[int], widths: Sequence[int]) -> RichTable:
    drawn = RichTable(title=Text(sheet.title, style="italic") if sheet.title else None)
    for place, width in zip(columns, widths, strict=True):
        # with a width of its own, rich neither shrinks a column nor widens it
        drawn.add_column(
            Text(broken(sheet.heads[place], width)),
            justify="left" if place < sheet.n_left else "right",
            width=width,
            overflow="fold",
        )
    for number, line in enumerate(sheet.lines):
        cells = [Text(broken(line[place], width)) for place, width in zip(columns, widths, strict=True)]
        drawn.add_row(*cells, style="italic" if number in sheet.quoted else "")
    return drawn


def _parts(sheet: Sheet, width: int | None) -> Iterator[tuple[list[int], list[int]]]:
    """Give the columns of each part with their widths."""
    n_columns = len(sheet.heads)
    full = [_longest(cell, whole=True) for cell in _columns(sheet)]
    if width is None or _total(full) <= width:
        yield list(range(n_columns)), full
        return
    left, right = list(range(sheet.n_left)), list(range(n_columns - sheet.n_right, n_columns))
    middle = range(sheet.n_left, n_columns - sheet.n_right)
    least = _least(sheet, full, width)
    part: list[int] = []
    for place in middle:
        if part and _total([least[one] for one in [*left, *part, place, *right]]) > width:
            yield _widened([*left, *part, *right], least, full, width)
            part = []
        part.append(place)
    yield _widened([*left, *part, *right], least, full, width)


def _least(sheet: Sheet, full: Sequence[int], width: int) -> list[int]:
    """Return how narrow each column may become; labels give way so that the widest other column fits."""
    n_columns, n_left = len(full), sheet.n_left
    numbers = [_longest([line[place] for line in sheet.lines]) for place in range(n_columns)]
    heads = [_longest([head]) for head in sheet.heads]
    least = [max(pair) for pair in zip(numbers, heads, strict=True)]
    pinned = [*range(n_left), *range(n_columns - sheet.n_right, n_columns)]
    widest = max((least[n_left : n_columns - sheet.n_right]), default=0)
    rest = width - _total([widest, *(least[place] for place in pinned if place >= n_left), *[0] * n_left])
    for place in range(n_left):
        share = max(1, rest // (n_left - place))
        least[place] = min(full[place], _LABEL_WIDTH, share)
        rest -= least[place]
    return least


def _widened(columns: list[int], least: Sequence[int], full: Sequence[int], width: int) -> tuple[list[int], list[int]]:
    """Share what a part leaves of the line among its columns, from left to right."""
    left = width - _total([least[place] for place in columns])
    widths = []
    for place in columns:
        more = max(0, min(left, full[place] - least[place]))
        widths.append(least[place] + more)
        left -= more
    return columns, widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _EDGES * len(widths) + 1


def _columns(sheet: Sheet) -> Iterator[list[str]]:
    for place, head in enumerate(sheet.heads):
        yield [head, *(line[place] for line in sheet.lines)]


def _longest(texts: Sequence[str], *, whole: bool = False) -> int:
    """Return the width of the longest line of some texts, or of what is not broken in them; at least 1."""
    pieces = [piece for text in texts for piece in (text.splitlines() if whole else _CHUNK.findall(text))]
    return max(map(cell_len, pieces), default=1) or 1


def broken(text: str, width: int) -> str:
    r"""Break text into lines of at most a width, at spaces outside of brackets; a longer word stays whole.

    Example:
        >>> broken("0.55 [0.30, 0.80] unverified", 13)
        '0.55\n[0.30, 0.80]\nunverified'
    """
    lines: list[str] = []
    for given in text.splitlines():
        if cell_len(given) <= width:
            lines.append(given)
            continue
        line = ""
        for piece in _CHUNK.findall(given):
            if line and cell_len(f"{line} {piece}") > width:
                lines.append(line)
                line = piece
            else:
                line = f"{line} {piece}".lstrip()
        lines.append(line)
    return "\n".join(lines)
