"""The parts of a table as text. Missing numbers are dashes."""

from idlora_pl.report.sheet import Sheet
from idlora_pl.report.speakers import few_speakers
from idlora_pl.report.table import Column, Row, Table

DASH = "–"
UNVERIFIED = "unverified"


def number(value: float | None, digits: int, *, sign: bool = False) -> str:
    """Format a number; None is a dash.

    Example:
        >>> number(0.12345, 3), number(0.5, 1, sign=True), number(None, 3)
        ('0.123', '+0.5', '–')
    """
    if value is None:
        return DASH
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def interval(low: float | None, high: float | None, digits: int, *, sign: bool = False) -> str:
    """Format an interval with its brackets; a missing one is empty."""
    if low is None or high is None:
        return ""
    return f"[{number(low, digits, sign=sign)}, {number(high, digits, sign=sign)}]"


def p_value(p: float | None) -> str:
    """Format a p-value; small ones as a bound, None as a dash."""
    if p is None:
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def cell_parts(table: Table, row: Row, column: Column) -> list[str]:
    """Return mean, interval, count where not all clips are scored, and the doubt of one cell, without what is empty."""
    found = table.cell(row.label, column.metric)
    ends = interval(found.ci_low, found.ci_high, column.digits)
    count = f"({found.n_scored}/{found.n_total})" if found.n_scored < found.n_total else ""
    parts = [number(found.mean, column.digits), ends, count, doubt(table, column.metric, row.label).strip()]
    return [part for part in parts if part]


def cell_text(table: Table, row: Row, column: Column) -> str:
    """Return one cell in one line."""
    return " ".join(cell_parts(table, row, column))


def doubt(table: Table, metric: str, *rows: str) -> str:
    """Return what stands behind a number of these rows: nothing, or that a scorer had not proved itself."""
    return "" if all(table.is_verified(row, metric) for row in rows) else f" {UNVERIFIED}"


def count_text(table: Table, row: Row) -> str:
    """Return how many clips a row scored of how many, over its columns."""
    found = [table.cell(row.label, column.metric) for column in table.columns]
    total = max(cell.n_total for cell in found)
    if total == 0:
        return DASH
    low, high = min(cell.n_scored for cell in found), max(cell.n_scored for cell in found)
    return f"{low}/{total}" if low == high else f"{low}-{high}/{total}"


def comparison_lines(table: Table) -> list[tuple[str, str, str, str, str]]:
    """Return the paired block: comparison, metric, difference with interval, p and n."""
    digits = {column.metric: column.digits for column in table.columns}
    headings = {column.metric: column.heading for column in table.columns}
    lines = []
    for one in table.comparisons:
        found, n_digits = one.difference, digits[one.metric]
        ends = interval(found.ci_low, found.ci_high, n_digits, sign=True)
        difference = f"{number(found.diff, n_digits, sign=True)} {ends}".strip() + doubt(
            table, one.metric, one.a, one.b
        )
        lines.append((f"{one.a} - {one.b}", headings[one.metric], difference, p_value(found.p), str(found.n)))
    return lines


def reproduction_lines(table: Table) -> list[tuple[str, str, str, str, str, str]]:
    """Return our numbers beside published ones: row, metric, ours, published, difference, whether it is covered."""
    columns = {column.metric: column for column in table.columns}
    lines = []
    for one in (found for found in table.reproductions if found.ours.mean is not None):
        digits = columns[one.metric].digits
        ours = f"{number(one.ours.mean, digits)} {interval(one.ours.ci_low, one.ours.ci_high, digits)}".strip()
        ours += doubt(table, one.metric, one.row)
        covered = {True: "yes", False: "no", None: DASH}[one.covered]
        difference = number(one.difference, digits, sign=True)
        heading = columns[one.metric].heading
        lines.append((f"{one.row} / {one.against}", heading, ours, number(one.published, digits), difference, covered))
    return lines


def penalty_lines(table: Table) -> list[str]:
    """Return the means that count failures as the worst value, in sentences."""
    columns = {column.metric: column for column in table.columns}
    said = []
    for cell in table.penalised:
        column, found, n_failed = columns[cell.metric], cell.interval, cell.n_failed
        mean = f"{number(found.mean, column.digits)} {interval(found.ci_low, found.ci_high, column.digits)}".strip()
        said.append(
            f"{cell.row}, {column.title}: {mean} with {n_failed} failures counted as {column.worst:g}"
            + (f" ({UNVERIFIED})" if doubt(table, cell.metric, cell.row) else "")
        )
    return said


def doubts(table: Table) -> list[str]:
    """Return what a reader must know before trusting a number: few speakers, missing seeds, unproved scorers, mixes."""
    said = [
        f"{cell.row}, {cell.metric}: {cell.n_left_out} generations have no value, their clips have one with other seeds"
        for cell in table.cells
        if cell.n_left_out
    ]
    said += few_speakers(cell.n_speakers for cell in table.cells)
    if not all(cell.verified for cell in table.cells):
        said.append(
            f"{UNVERIFIED.capitalize()}: the anchor of the scorer had not passed on the machine that scored; "
            "`idlora doctor` says why, and `idlora score --again all` scores anew."
        )
    return said


def notes(table: Table) -> list[str]:
    """Return the sentences under a table: what the numbers are, missing rows, sources of quoted rows."""
    said = list(table.findings)
    said += [
        "Mean [95 % interval, bootstrap over speakers]; n is clips scored / items of the row. "
        "Paired: a - b on the same clips, p from sign flips over speakers."
    ]
    said += penalty_lines(table)
    said += [*doubts(table), *table.remarks]
    if reproduction_lines(table):
        said.append("Covered: our 95 % interval contains the published value.")
    said += [
        f"{row.label}: not measured; run `{row.command}`" if row.command else f"{row.label}: not measured"
        for row in table.rows
        if table.is_missing(row)
    ]
    quoted: dict[str, list[str]] = {}
    for row in table.rows:
        if row.quoted is not None:
            quoted.setdefault(row.source or "an unnamed source", []).append(row.label)
    said += [f"{', '.join(labels)}: quoted from {source}" for source, labels in quoted.items()]
    if table.seconds:
        said.append("Seconds: " + ", ".join(f"{phase} {value:.0f}" for phase, value in table.seconds.items()))
    return said


def blocks(table: Table) -> list[Sheet]:
    """Return the blocks under a table: paired differences, and ours beside published."""
    found = []
    if table.comparisons:
        found.append(Sheet(("paired", "metric", "difference", "p", "n"), tuple(comparison_lines(table))))
    if lines := reproduction_lines(table):
        heads = ("ours / published", "metric", "ours", "published", "difference", "covered")
        found.append(Sheet(heads, tuple(lines)))
    return found
