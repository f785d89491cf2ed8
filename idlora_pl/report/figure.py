"""A table as a figure: one panel a metric, one point with its interval a row."""

from io import BytesIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from idlora_pl.report.table import Table

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
