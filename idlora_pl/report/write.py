"""Writes a table to a folder, each file whole or not at all."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from idlora_pl.files import replacing
from idlora_pl.report.export import paired_csv, to_csv, to_latex
from idlora_pl.report.figure import to_png
from idlora_pl.report.markdown import to_markdown
from idlora_pl.report.page.document import to_html
from idlora_pl.report.page.shown import linked, paths_of
from idlora_pl.report.table import COLUMNS, Column, Table
from idlora_pl.results.scores_file import ScoreRow

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
    contents = table_files(table)
    page = to_html(table, scores, linked(paths_of(scores), folder), known=known, beside=list(contents))
    contents["index.html"] = page.encode()
    for name, content in contents.items():
        with replacing(folder / name) as partial:
            partial.write_bytes(content)
    return [folder / name for name in contents]
