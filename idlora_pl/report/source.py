"""Where a table comes from: a ``scores.jsonl``, or a yaml file that names runs and quoted rows."""

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from idlora_pl.report.build import build_table
from idlora_pl.report.declared import declared, quoted_row
from idlora_pl.report.scores_table import table_from_scores
from idlora_pl.report.table import COLUMNS, Column, Row, Table
from idlora_pl.results.scores_file import ScoreRow, located, read_scores, row_names


def read_table(
    path: Path | str,
    *,
    runs_dir: Path | str = "runs",
    known: Mapping[str, Column] = COLUMNS,
    paired: Sequence[tuple[str, str]] = (),
) -> tuple[Table, list[ScoreRow]]:
    """Read the table of a ``scores.jsonl`` or of a table yaml.

    Args:
        path: The file.
        runs_dir: Folder of the runs that a yaml names.
        known: Columns of all scores that exist, which a table may have beside ``COLUMNS``.
        paired: Pairs of rows of a ``scores.jsonl`` to compare; a yaml names its own.

    Returns:
        The table and the scores it was made from; paths in their notes are relative to the current folder.

    Raises:
        ValueError: The file is neither, or something in it does not fit; the message says what.
    """
    path = Path(path)
    if path.is_dir() or path.suffix not in (".jsonl", ".yaml", ".yml"):
        raise ValueError(f"{path} is not a table; give a scores.jsonl or a yaml of experiments/tables")
    if path.suffix == ".jsonl":
        return table_from_scores(path, known, paired)
    if paired:
        raise ValueError(
            f"{path} names the rows that it compares; put {paired[0][0]}, {paired[0][1]} under its key paired"
        )
    return table_from_yaml(path, runs_dir, known)


def table_from_yaml(
    path: Path | str, runs_dir: Path | str = "runs", known: Mapping[str, Column] = COLUMNS
) -> tuple[Table, list[ScoreRow]]:
    """Rebuild a table that a yaml file declares.

    The file holds ``caption``, ``columns`` (metric: title, better, digits), ``rows`` (label with ``run`` and
    ``sampling``, or with ``quoted`` and ``source``) and ``paired`` (a list of two labels each). The scores of
    a run lie in ``runs_dir/<run>`` or ``runs_dir/<run>-<8 hex>``; ``sampling`` names the row of its
    ``scores.jsonl``, and may be left out where the file holds one row, or one of the run's own name.
    ``command``, of a row or of the whole table, is printed for rows whose run is missing; ``{run}`` in it stands
    for the run's name. ``against`` of a row names the quoted row that it should reproduce. ``split`` of the table and
    ``method`` of a quoted row say which clips the published numbers are of, for `idlora calibrate`.
    """
    path = Path(path)
    content, columns = declared(path, known)
    rows: list[Row] = []
    scores: list[ScoreRow] = []
    for number, entry in enumerate(content["rows"]):
        options = {"command": content.get("command", "")} | entry
        row, found = _row(options, columns, Path(runs_dir), f"{path}, rows[{number}]")
        rows.append(row)
        scores += found
    paired = [(a, b) for a, b in content.get("paired", [])]
    try:
        return build_table(scores, rows, columns, paired, caption=content.get("caption", ""), known=known), scores
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _row(options: Mapping[str, Any], columns: list[Column], runs_dir: Path, where: str) -> tuple[Row, list[ScoreRow]]:
    """Return one row of a yaml with its scores; without scores when quoted, or when the run is missing."""
    label, run, sampling = options["label"], options.get("run"), options.get("sampling")
    if ("quoted" in options) == (run is not None):
        raise ValueError(f"{where}: give either run or quoted")
    if run is None:
        return quoted_row(options, columns, where), []
    if "method" in options:
        raise ValueError(f"{where}: method '{options['method']}' belongs to a quoted row; remove it, or give quoted")
    row = Row(label, command=options["command"].replace("{run}", str(run)), against=options.get("against", ""))
    folder = _run_folder(run, runs_dir, where)
    if folder is None or not (folder / "scores.jsonl").is_file():
        return row, []
    scores = read_scores(folder / "scores.jsonl")
    names = row_names(scores)
    wanted = sampling or (names[0] if len(names) == 1 else run)
    if wanted not in names and sampling is None:
        raise ValueError(f"{where}: {folder} holds the rows {', '.join(names)}; name one with sampling")
    if wanted not in names:
        raise ValueError(f"{where}: row '{wanted}' is not in {folder / 'scores.jsonl'}; it holds {', '.join(names)}")
    chosen = [replace(score, row=label) for score in scores if score.row == wanted]
    return row, located(chosen, folder)


def _run_folder(run: str, runs_dir: Path, where: str) -> Path | None:
    """Find the folder of a run; None when there is none, and an error when there are several."""
    if (runs_dir / run).is_dir():
        return runs_dir / run
    parent, name = (runs_dir / run).parent, (runs_dir / run).name
    beside = sorted(parent.glob(f"{glob.escape(name)}-*"))
    found = [folder for folder in beside if re.fullmatch(r"-[0-9a-f]{8}", folder.name[len(name) :])]
    if len(found) > 1:
        raise ValueError(f"{where}: run '{run}' could be {', '.join(p.name for p in found)}; write one of them")
    return found[0] if found else None
