"""Any table as text: heads and lines, and how it is fitted to a screen or written as Markdown."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from rich.cells import cell_len
from rich.table import Table as RichTable
from rich.text import Text

_EDGES, _THIN_EDGES = 3, 1
"""What borders add to a column, with spaces beside them and without."""
_CHUNK = re.compile(r"\[[^\]]*\]|\S+")
"""What is not broken over lines where it can be helped: words, and intervals with their brackets."""


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Attributes:
        heads: What stands above the columns.
        lines: The cells, row by row; a cell may have several lines.
        title: One line above.
        n_left: Columns that name a row; they are set to the left.
        quoted: Numbers of the lines that are set in italics.
    """

    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    title: str = ""
    n_left: int = 2
    quoted: frozenset[int] = field(default_factory=frozenset)


def fitted(sheet: Sheet, width: int | None = None) -> RichTable:
    """Return what a rich console prints: as it is, with thin columns, or one line a cell, whichever fits first.

    Args:
        sheet: The table.
        width: Characters that fit into a line; None for no limit.
    """
    if width is None:
        return _drawn(sheet, _full(sheet), _EDGES)
    for form, edges in ((sheet, _EDGES), (_thin(sheet), _THIN_EDGES)):
        if _total(least := _least(form), edges) <= width:
            return _drawn(form, _widened(least, _full(form), width, edges), edges)
    listed = _listed(sheet)
    least = _giving_way(_least(listed), listed.n_left, width)
    # from the right, so that a number stays on one line while there is room
    widths = _widened(least[::-1], _full(listed)[::-1], width, _EDGES)[::-1]
    return _drawn(listed, widths, _EDGES)


def fits(sheet: Sheet, width: int | None) -> bool:
    """Say whether a table fits into a line as it is, with breaks between words only."""
    return width is None or _total(_least(sheet), _EDGES) <= width


def _thin(sheet: Sheet) -> Sheet:
    """Take out the spaces in intervals."""
    lines = tuple(
        tuple(_CHUNK.sub(lambda found: found[0].replace(", ", ","), cell) for cell in line) for line in sheet.lines
    )
    return replace(sheet, lines=lines)


def _listed(sheet: Sheet) -> Sheet:
    """Give each cell a line of its own, column after column."""
    lines: list[tuple[str, ...]] = []
    quoted: set[int] = set()
    for place in range(sheet.n_left, len(sheet.heads)):
        for number, line in enumerate(sheet.lines):
            quoted |= {len(lines)} if number in sheet.quoted else set()
            cell = " ".join(line[place].split("\n"))
            lines.append(("" if number else sheet.heads[place], *line[: sheet.n_left], cell))
    heads = ("", *sheet.heads[: sheet.n_left], "")
    return Sheet(heads, tuple(lines), sheet.title, n_left=sheet.n_left + 1, quoted=frozenset(quoted))


def _drawn(sheet: Sheet, widths: Sequence[int], edges: int) -> RichTable:
    title = Text(sheet.title, style="italic") if sheet.title else None
    drawn = RichTable(title=title, padding=(0, 1) if edges == _EDGES else 0)
    for place, width in enumerate(widths):
        # with a width of its own, rich neither shrinks a column nor widens it
        drawn.add_column(
            Text(broken(sheet.heads[place], width)),
            justify="left" if place < sheet.n_left else "right",
            width=width,
            overflow="fold",
        )
    for number, line in enumerate(sheet.lines):
        cells = [Text(broken(cell, width)) for cell, width in zip(line, widths, strict=True)]
        drawn.add_row(*cells, style="italic" if number in sheet.quoted else "")
    return drawn


def _full(sheet: Sheet) -> list[int]:
    """Return how wide each column is without a line break of ours."""
    return [_longest(texts, whole=True) for texts in _columns(sheet)]


def _least(sheet: Sheet) -> list[int]:
    """Return how narrow each column may become without breaking a word or an interval."""
    return [_longest(texts) for texts in _columns(sheet)]


def _giving_way(least: list[int], n_left: int, width: int) -> list[int]:
    """Narrow labels so that the numbers fit, although words break."""
    rest = width - _total([*[0] * n_left, *least[n_left:]], _EDGES)
    narrowed = list(least)
    for place in range(n_left):
        narrowed[place] = max(1, min(least[place], rest // (n_left - place)))
        rest -= narrowed[place]
    return narrowed


def _widened(least: Sequence[int], full: Sequence[int], width: int, edges: int) -> list[int]:
    """Share what is left of the line among the columns, from left to right."""
    left = width - _total(least, edges)
    widths = []
    for narrow, wide in zip(least, full, strict=True):
        more = max(0, min(left, wide - narrow))
        widths.append(narrow + more)
        left -= more
    return widths


def _total(widths: Sequence[int], edges: int) -> int:
    return sum(widths) + edges * len(widths) + 1


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
