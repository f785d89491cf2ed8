"""A table as Markdown, for a paper as LaTeX (booktabs), and for a spreadsheet as CSV."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

from idlora_pl.report.sheet import Sheet
from idlora_pl.report.table import Column, Row, Table
from idlora_pl.report.text import DASH, blocks, cell_parts, cell_text, count_text, notes

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


_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\to$",
}
_CSV_HEADS = ("row", "metric", "mean", "ci_low", "ci_high", "n_scored", "n_total", "n_speakers", "seeds_least")
_CSV_ABOUT = ("seeds_most", "quoted", "verified")
_PAIRED_HEADS = (
    *("a", "b", "metric", "difference", "ci_low", "ci_high", "p", "n", "n_speakers", "n_dropped", "p_margin"),
    *("n_failed", "n_unpaired", "penalised", "penalised_ci_low", "penalised_ci_high", "penalised_p"),
)
_CSV_MORE = ("against", "published", "difference", "covered")
_CSV_PENALISED = ("n_failed", "penalised_mean", "penalised_ci_low", "penalised_ci_high")


def latex_text(text: str) -> str:
    r"""Escape text for LaTeX; line breaks become spaces.

    Example:
        >>> print(latex_text("50 % of a_b"))
        50 \% of a\_b
    """
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))


def to_latex(table: Table) -> str:
    """Return the table as a LaTeX `table` that needs booktabs; the notes stand behind it as comments.

    Quoted rows are in italics, each cell holds the mean, and in small print its interval and the count where not all
    clips are scored. The paired differences, and ours beside the published values, follow as further tabulars.
    """
    heads = ["", *(latex_text(column.heading) for column in table.columns), "$n$"]
    main = _tabular(heads, [_latex_row(table, row) for row in table.rows], n_left=1)
    return _float(table.caption, [main, *map(_latex_sheet, blocks(table))], notes(table))


def sheets_latex(sheets: Sequence[Sheet], caption: str, said: Iterable[str]) -> str:
    """Return tables of text as one LaTeX `table`, with notes as comments."""
    return _float(caption, [_latex_sheet(sheet) for sheet in sheets], said)


def _float(caption: str, tabulars: Iterable[str], said: Iterable[str]) -> str:
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{latex_text(caption)}}}"]
    lines += ["\n\\par\\medskip\n".join(tabulars), r"\end{table}"]
    return "\n".join([*lines, *(f"% {' '.join(note.split())}" for note in said)]) + "\n"


def _latex_sheet(sheet: Sheet) -> str:
    return _tabular(map(latex_text, sheet.heads), (map(latex_text, line) for line in sheet.lines), sheet.n_left)


def _tabular(heads: Iterable[str], lines: Iterable[Iterable[str]], n_left: int) -> str:
    first = list(heads)
    rows = [r"\begin{tabular}{" + "l" * n_left + "r" * (len(first) - n_left) + "}", r"\toprule"]
    rows += [_latex_line(first), r"\midrule", *map(_latex_line, lines), r"\bottomrule", r"\end{tabular}"]
    return "\n".join(rows)


def _latex_line(cells: Iterable[str]) -> str:
    line = " & ".join(cells) + r" \\"
    # behind a line's end or a rule, LaTeX would read these as an option or a star of it
    return f"{{{line[0]}}}{line[1:]}" if line[0] in "[*" else line


def _latex_row(table: Table, row: Row) -> list[str]:
    cells = [_latex_cell(table, row, column) for column in table.columns]
    label = latex_text(row.label)
    return [_set(row, label), *cells, latex_text(count_text(table, row))]


def _latex_cell(table: Table, row: Row, column: Column) -> str:
    mean, *small = map(latex_text, cell_parts(table, row, column))
    if table.cell(row.label, column.metric).mean is None and not small:
        return mean
    return _set(row, f"{mean} {{\\scriptsize {' '.join(small)}}}" if small else mean)


def _set(row: Row, text: str) -> str:
    return text if row.quoted is None else rf"\textit{{{text}}}"


def to_csv(table: Table) -> str:
    """Return one line a cell: the number, what it stands against, and the mean that counts failures.

    A cell stands against the published value of the row that its row should reproduce; `covered` says whether our
    interval holds that value. What does not apply is empty.
    """
    quoted = {row.label: row.quoted is not None for row in table.rows}
    beside = {(one.row, one.metric): one for one in table.reproductions}
    penalised = {(one.row, one.metric): one for one in table.penalised}
    lines = []
    for cell in table.cells:
        found = cell.interval
        line = [cell.row, cell.metric, found.mean, found.ci_low, found.ci_high, found.n_scored, found.n_total]
        one, other = beside.get((cell.row, cell.metric)), penalised.get((cell.row, cell.metric))
        line += [cell.n_speakers, *cell.seeds, quoted[cell.row], cell.verified]
        line += [None] * 4 if one is None else [one.against, one.published, one.difference, one.covered]
        mean = None if other is None else other.interval
        line += [None] * 4 if other is None or mean is None else [other.n_failed, mean.mean, mean.ci_low, mean.ci_high]
        lines.append(line)
    return csv_text([*_CSV_HEADS, *_CSV_ABOUT, *_CSV_MORE, *_CSV_PENALISED], lines)


def paired_csv(table: Table) -> str:
    """Return one line a paired difference; only the heads for a table without any.

    The last columns are of the difference in which failures count as the worst value of the column, where there is one.
    """
    lines = []
    for one in table.comparisons:
        it, counted = one.difference, one.penalised
        worst = [None] * 4 if counted is None else [counted.diff, counted.ci_low, counted.ci_high, counted.p]
        line = [one.a, one.b, one.metric, it.diff, it.ci_low, it.ci_high, it.p, it.n, it.n_speakers, it.n_dropped]
        lines.append([*line, it.p_margin, one.n_failed, one.n_unpaired, *worst])
    return csv_text(_PAIRED_HEADS, lines)


def csv_text(heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """Return lines as CSV, numbers in full precision, None as an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(["" if value is None else value for value in line] for line in lines)
    return text.getvalue()
