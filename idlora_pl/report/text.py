"""A table as text, and what the screen shows of it. Missing numbers are dashes.

A table that is too wide for the screen gets thin columns or a line for each number: none is cut off. Notes say how far
numbers can be trusted, given how many speakers they stand on.
"""

from collections.abc import Iterable
from dataclasses import replace

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from idlora_pl.report.sheet import Sheet, fits, fitted
from idlora_pl.report.table import Column, Comparison, Row, Table
from idlora_pl.results.statistics import PairedDifference

DASH = "–"
UNVERIFIED = "unverified"
PAIRED_HEADS = ("paired", "metric", "difference", "p", "n", "speakers", "dropped")


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


_HOW = (
    "Mean [95 % interval over speakers; exact where every value is 0 or 1, none where all speakers are alike]; n is "
    "clips scored / items of the row."
)
_HOW_PAIRED = "Paired: a - b on the clips that both rows have a value for, p from sign flips over speakers"
_HOW_DROPPED = "; dropped: clips without a value in one or both"
_HOW_SEEDS = (
    "Seeds: a clip counts once, with the mean over its seeds. How seeds of one clip differ is in the intervals as far "
    "as clips and speakers show it; another training is not."
)


def p_text(p: float | None) -> str:
    """Return a p-value for a sentence; nothing where there is none.

    Example:
        >>> p_text(0.0123), p_text(1e-5), p_text(None)
        ('p = 0.012', 'p < 0.001', '')
    """
    if p is None:
        return ""
    return f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"


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
    return (f"{low}/{total}" if low == high else f"{low}-{high}/{total}") + seeds_text(table, row)


def seeds_text(table: Table, row: Row) -> str:
    """Return how many generations of a clip a row averages; nothing where it is one of each."""
    found = [cell.seeds for cell in table.cells if cell.row == row.label and cell.seeds != (0, 0)]
    least, most = min((low for low, _ in found), default=1), max((high for _, high in found), default=1)
    return "" if most == 1 else f", {_span(least, most)} seeds"


def _span(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low}-{high}"


def difference_text(found: PairedDifference, column: Column) -> str:
    """Return a paired difference with its interval."""
    ends = interval(found.ci_low, found.ci_high, column.digits, sign=True)
    return f"{number(found.diff, column.digits, sign=True)} {ends}".strip()


def penalty_text(found: Comparison, column: Column) -> str:
    """Say how failures count in a penalised difference."""
    return f"{found.n_failed} failures as {column.worst:g}"


def comparison_lines(table: Table) -> list[tuple[str, ...]]:
    """Return the paired block, a line a difference, and a second one where clips have failed (see `PAIRED_HEADS`)."""
    columns = {column.metric: column for column in table.columns}
    lines = []
    for one in table.comparisons:
        column, doubted = columns[one.metric], doubt(table, one.metric, one.a, one.b)
        kinds = [(column.heading, one.difference)]
        if one.penalised is not None:
            kinds.append((f"{column.heading}, {penalty_text(one, column)}", one.penalised))
        for heading, found in kinds:
            shown = difference_text(found, column) + doubted
            counts = (found.n, found.n_speakers, found.n_dropped)
            lines.append((f"{one.a} - {one.b}", heading, shown, p_value(found.p), *map(str, counts)))
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
    counts = [cell.n_speakers for cell in table.cells]
    said += few_speakers([*counts, *(one.difference.n_speakers for one in table.comparisons)])
    if not all(cell.verified for cell in table.cells):
        said.append(
            f"{UNVERIFIED.capitalize()}: the anchor of the scorer had not passed on the machine that scored; "
            "`idlora doctor` says why, and `idlora score --again all` scores anew."
        )
    return said


def _has_dropped(table: Table) -> bool:
    return any(one.difference.n_dropped for one in table.comparisons)


def _has_seeds(table: Table) -> bool:
    return any(seeds_text(table, row) for row in table.rows)


def notes(table: Table) -> list[str]:
    """Return the sentences under a table: what the numbers are, missing rows, sources of quoted rows."""
    said = list(table.findings)
    said.append(_HOW)
    if table.comparisons:
        said.append(_HOW_PAIRED + (_HOW_DROPPED if _has_dropped(table) else "") + ".")
    said += [_HOW_SEEDS] if _has_seeds(table) else []
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
        # the last column says nothing where no clip was dropped
        n_shown = len(PAIRED_HEADS) - (not _has_dropped(table))
        found.append(Sheet(PAIRED_HEADS[:n_shown], tuple(line[:n_shown] for line in comparison_lines(table))))
    return [*found, *_reproduced(table)]


def _reproduced(table: Table) -> list[Sheet]:
    lines = reproduction_lines(table)
    heads = ("ours / published", "metric", "ours", "published", "difference", "covered")
    return [Sheet(heads, tuple(lines))] if lines else []


def _paired(table: Table) -> list[Sheet]:
    """Return the paired differences for a screen: a row a pair, a column a score."""
    if not table.comparisons:
        return []
    counts = {_counts(one.difference) for one in table.comparisons}
    are_alike = len(counts) == 1
    title = f"paired differences, {', '.join(counts)}" if are_alike else "paired differences"
    by_pair: dict[str, dict[str, list[str]]] = {}
    for one in table.comparisons:
        parts = _difference_parts(table, one) + ([] if are_alike else [_counts(one.difference)])
        by_pair.setdefault(f"{one.a} - {one.b}", {})[one.metric] = parts
    columns = [column for column in table.columns if any(column.metric in cells for cells in by_pair.values())]
    lines = [
        (pair, *("\n".join(cells.get(column.metric, [DASH])) for column in columns)) for pair, cells in by_pair.items()
    ]
    return [Sheet(("pair", *(column.heading for column in columns)), tuple(lines), title, n_left=1)]


def _difference_parts(table: Table, one: Comparison) -> list[str]:
    """Return difference, interval and p of a pair, once more with failures counted, and the doubt; nothing empty."""
    column = next(column for column in table.columns if column.metric == one.metric)
    counted = [] if one.penalised is None else [f"{penalty_text(one, column)}:", *_numbers(one.penalised, column)]
    parts = [*_numbers(one.difference, column), *counted, doubt(table, one.metric, one.a, one.b).strip()]
    return [part for part in parts if part]


def _numbers(found: PairedDifference, column: Column) -> list[str]:
    ends = interval(found.ci_low, found.ci_high, column.digits, sign=True)
    return [number(found.diff, column.digits, sign=True), ends, p_text(found.p)]


def _counts(found: PairedDifference) -> str:
    """Return what a difference stands on, such as `90 clips of 12 speakers, 6 dropped`."""
    dropped = f", {found.n_dropped} dropped" if found.n_dropped else ""
    return f"{found.n} clips of {found.n_speakers} speakers{dropped}"


def to_rich(table: Table, width: int | None = None) -> list[RichTable | Text]:
    """Return what a rich console prints: the table, the paired block and the notes.

    Args:
        table: The table.
        width: Characters that fit into a line; None for no limit.
    """
    sheets = [_main(table, width), *_paired(table), *_reproduced(table)]
    return [*(fitted(sheet, width) for sheet in sheets), *(Text(note, style="dim") for note in notes(table))]


def show(parts: Iterable[RichTable | Text], console: Console) -> None:
    """Print what `to_rich` returns; the console does not break the notes, so that commands in them can be copied."""
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text), highlight=False)


def _main(table: Table, width: int | None) -> Sheet:
    """Return the table itself; where it is too wide, a count that all rows share goes into the title."""
    lines = [
        (row.label, *("\n".join(cell_parts(table, row, column)) for column in table.columns), count_text(table, row))
        for row in table.rows
    ]
    heads = ("row", *(column.heading for column in table.columns), "n")
    quoted = frozenset(number for number, row in enumerate(table.rows) if row.quoted is not None)
    sheet = Sheet(heads, tuple(lines), table.caption, n_left=1, quoted=quoted)
    if fits(sheet, width) or len({line[-1] for line in lines}) > 1:
        return sheet
    title = ", ".join(part for part in (table.caption, f"n = {lines[0][-1]}") if part)
    return replace(sheet, heads=heads[:-1], lines=tuple(line[:-1] for line in lines), title=title)


TOO_FEW = 6
"""Below this many, a sign-flip test cannot come below p = 0.05, and nothing is decided."""
FEW = 12
"""Below this many, intervals hold only where speakers scatter about normally (docs/scoring.md)."""


def few_speakers(counts: Iterable[int]) -> list[str]:
    """Return sentences about numbers and paired differences that stand on few speakers.

    Example:
        >>> few_speakers([8, 30])
        ['Intervals over 8 speakers hold where speakers scatter normally; with skewed ones they cover less.']
    """
    found = sorted({count for count in counts if 0 < count < FEW})
    said = []
    if 1 in found:
        said.append("Over one speaker there is no interval and no p: nothing shows how far others would differ.")
        found.remove(1)
    if far := [count for count in found if count < TOO_FEW]:
        said.append(
            f"So few speakers ({_ends(far)}) decide nothing: a sign-flip test needs {TOO_FEW} to come below p = 0.05, "
            "and the intervals hold only where speakers scatter normally."
        )
    if near := [count for count in found if count >= TOO_FEW]:
        said.append(
            f"Intervals over {_ends(near)} speakers hold where speakers scatter normally; with skewed ones they cover "
            "less."
        )
    return said


def _ends(counts: list[int]) -> str:
    return f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
