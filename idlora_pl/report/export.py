"""A table for a paper and for a spreadsheet: LaTeX (booktabs) and CSV."""

import csv
import io

from idlora_pl.report.render import doubt, interval, notes, number
from idlora_pl.report.table import Column, Row, Table

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
    "–": "--",
}
_LATEX_ARROWS = {"higher": r"$\uparrow$", "lower": r"$\downarrow$", "near zero": r"$\to 0$"}


def latex_text(text: str) -> str:
    r"""Escape text for LaTeX.

    Example:
        >>> print(latex_text("50 % of a_b"))
        50 \% of a\_b
    """
    return "".join(_SPECIAL.get(character, character) for character in text)


def to_latex(table: Table) -> str:
    """Return the table as a LaTeX `table` that needs booktabs; the notes stand behind it as comments.

    Quoted rows are in italics, each cell holds the mean, and its interval in small print.
    """
    heads = [f"{latex_text(column.title)} {_LATEX_ARROWS[column.better]}" for column in table.columns]
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{latex_text(table.caption)}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(heads) + 1)}}}", r"\toprule"]
    lines += [" & ".join(["", *heads, "$n$"]) + r" \\", r"\midrule"]
    lines += [_latex_row(table, row) for row in table.rows]
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join([*lines, *(f"% {note}" for note in notes(table))]) + "\n"


def _latex_row(table: Table, row: Row) -> str:
    cells = [_latex_cell(table, row, column) for column in table.columns]
    found = [table.cell(row.label, column.metric) for column in table.columns]
    count = (
        "--" if row.quoted is not None else f"{min(one.n_scored for one in found)}/{max(one.n_total for one in found)}"
    )
    label = latex_text(row.label)
    return " & ".join([rf"\textit{{{label}}}" if row.quoted is not None else label, *cells, count]) + r" \\"


def _latex_cell(table: Table, row: Row, column: Column) -> str:
    found = table.cell(row.label, column.metric)
    if found.mean is None:
        return "--"
    mean = number(found.mean, column.digits)
    ends = interval(found.ci_low, found.ci_high, column.digits)
    small = f"{ends}{doubt(table, column.metric, row.label)}".strip()
    shown = f"{mean} {{\\scriptsize {small}}}" if small else mean
    return rf"\textit{{{shown}}}" if row.quoted is not None else shown


def to_csv(table: Table) -> str:
    """Return one line a cell: row, metric, mean, ci_low, ci_high, n_scored, n_total, quoted, verified."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "metric", "mean", "ci_low", "ci_high", "n_scored", "n_total", "quoted", "verified"])
    quoted = {row.label: row.quoted is not None for row in table.rows}
    for cell in table.cells:
        found = cell.interval
        values = [found.mean, found.ci_low, found.ci_high]
        shown = ["" if value is None else repr(value) for value in values]
        writer.writerow([cell.row, cell.metric, *shown, found.n_scored, found.n_total, quoted[cell.row], cell.verified])
    return text.getvalue()
