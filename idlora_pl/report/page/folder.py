"""Writes a page that can be moved: everything that it shows lies in its folder."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.progress import track

from idlora_pl.files import replacing_folder
from idlora_pl.report.page.clips import copied
from idlora_pl.report.page.document import GENERATOR, paths_of, to_html
from idlora_pl.report.table import COLUMNS, Column, Table
from idlora_pl.report.write import TABLE_FILES, table_files
from idlora_pl.results.row import ScoreRow

PAGE = "index.html"
_FOLDERS = ("clips", "pictures")


def write_page(
    table: Table,
    scores: Sequence[ScoreRow],
    folder: Path | str,
    *,
    known: Mapping[str, Column] = COLUMNS,
    workers: int | None = None,
) -> Path:
    """Write a table as a folder to look at and to listen to; the folder appears when it is complete.

    Args:
        table: The table.
        scores: The scores behind it; paths in their notes are relative to the current folder, as
            ``read_table`` returns them.
        folder: A new folder, an empty one, or a page that this function wrote earlier, which is replaced.
        known: Titles and directions of scores that are no columns of the table.
        workers: How many clips are copied and drawn at once; None takes one a core.

    Returns:
        The path of the page, ``index.html``; beside it lie ``clips/``, ``pictures/`` and the files of the table.

    Raises:
        ValueError: The folder holds something else, or another process is writing it.
    """
    folder = Path(os.path.abspath(folder))
    refuse_foreign(folder)
    files = table_files(table)
    with replacing_folder(folder, full=True) as partial:
        labels = {row.label for row in table.rows}
        paths = paths_of(score for score in scores if score.row in labels)
        jobs = track(copied(paths, partial, workers=workers), description="copying and drawing clips", total=len(paths))
        shown = dict(jobs)
        for name, content in files.items():
            (partial / name).write_bytes(content)
        (partial / PAGE).write_text(to_html(table, scores, shown, known=known, beside=list(files)), encoding="utf-8")
    return folder / PAGE


def refuse_foreign(folder: Path) -> None:
    """Raise ValueError when a folder holds what `write_page` did not write."""
    if not folder.exists():
        return
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if not folder.is_dir() or (held and not _is_page(folder)):
        raise ValueError(f"{folder} already holds something else; give --html a new folder")
    if foreign := held - {*TABLE_FILES, PAGE, *_FOLDERS}:
        raise ValueError(f"{folder} holds {min(foreign)} beside an earlier page; move it away or give a new folder")


def _is_page(folder: Path) -> bool:
    page = folder / PAGE
    return page.is_file() and GENERATOR in page.read_text(encoding="utf-8", errors="replace")[:4096]
