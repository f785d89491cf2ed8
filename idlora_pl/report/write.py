"""Writes a table to a folder, each file whole or not at all.

Its figure has one panel a metric, with one point and its interval a row.
"""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from idlora_pl.files import replacing
from idlora_pl.report.formats import paired_csv, to_csv, to_latex, to_markdown
from idlora_pl.report.page.document import linked, paths_of, to_html
from idlora_pl.report.table import COLUMNS, Column, Table
from idlora_pl.results.row import ScoreRow

TABLE_FILES = ("table.json", "table.md", "table.tex", "table.csv", "paired.csv", "figure.png")


def table_files(table: Table) -> dict[str, bytes]:
    """Return the content of the ``TABLE_FILES``, which need no clips."""
    listed = json.dumps(table.to_dict(), indent=2, allow_nan=False) + "\n"
    texts = (listed, to_markdown(table), to_latex(table), to_csv(table), paired_csv(table))
    return dict(zip(TABLE_FILES, [*(text.encode() for text in texts), to_png(table)], strict=True))


def write_report(
    table: Table, scores: Sequence[ScoreRow], folder: Path | str, *, known: Mapping[str, Column] = COLUMNS
) -> list[Path]:
    """Write ``table.json``, ``.md``, ``.tex``, ``.csv``, ``paired.csv``, ``figure.png`` and ``index.html`` to a folder.

    The page plays the clips from where they are; `write_page` makes one that can be moved.

    Args:
        table: The table.
        scores: The scores behind it; paths in their notes are relative to the current folder, as
            ``read_table`` returns them.
        folder: Made if it does not exist.
        known: Titles and directions of scores that are no columns of the table.

    Returns:
        The paths of the files.
    """
    folder = Path(folder)
    page = to_html(table, scores, linked(paths_of(scores), folder), known=known, beside=TABLE_FILES)
    return [*write_tables(table, folder), _written(folder / "index.html", page.encode())]


def write_tables(table: Table, folder: Path | str) -> list[Path]:
    """Write the ``TABLE_FILES`` to a folder, which is made if it does not exist; returns their paths."""
    return [_written(Path(folder) / name, content) for name, content in table_files(table).items()]


def _written(path: Path, content: bytes) -> Path:
    with replacing(path) as partial:
        partial.write_bytes(content)
    return path


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can tell apart; the markers differ too."""
MARKERS = ("o", "s", "D", "^", "v", "P", "X")


def draw(table: Table) -> Figure:
    """Draw a table; rows without a number keep their line, empty."""
    n_rows = len(table.rows)
    figure = Figure(figsize=(1.6 + 2.6 * len(table.columns), 1.3 + 0.42 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(table.columns), sharey=True, squeeze=False)[0]
    for panel, column in zip(panels, table.columns, strict=True):
        for place, row in enumerate(table.rows):
            found = table.cell(row.label, column.metric)
            if found.mean is None:
                continue
            low = found.mean if found.ci_low is None else found.ci_low
            high = found.mean if found.ci_high is None else found.ci_high
            panel.errorbar(
                found.mean,
                place,
                xerr=[[max(0.0, found.mean - low)], [max(0.0, high - found.mean)]],
                color=COLOURS[place % len(COLOURS)],
                marker=MARKERS[place % len(MARKERS)],
                markersize=7,
                markerfacecolor="white" if row.quoted is not None else None,
                capsize=3,
                linestyle="none",
            )
        panel.set_title(column.heading, fontsize=10)
        panel.grid(axis="x", alpha=0.3)
        panel.margins(x=0.12)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(n_rows), [row.label for row in table.rows])
    panels[0].set_ylim(n_rows - 0.5, -0.5)
    counts = {found.n_total for cell in table.cells if (found := cell.interval).n_total}
    clips = f", {min(counts)} clips a row" if len(counts) == 1 else ""
    note = f"mean and 95 % interval over speakers{clips}; the arrow points to better"
    figure.suptitle(f"{table.caption}\n{note}" if table.caption else note, fontsize=9)
    return figure


def to_png(table: Table, *, dpi: int = 150) -> bytes:
    """Return the figure of a table as the bytes of a PNG file."""
    buffer = BytesIO()
    draw(table).savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
