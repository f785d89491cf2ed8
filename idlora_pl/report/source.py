"""Where a table comes from: a ``scores.jsonl``, or a yaml file that names runs and quoted rows.

Every key and value that a yaml declares is checked.
"""

import glob
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from idlora_pl.report.build import build_table
from idlora_pl.report.table import COLUMNS, Column, Row, Table
from idlora_pl.report.yaml_checks import as_count, as_list, as_mapping, as_named, as_number, as_text, load_yaml
from idlora_pl.results.row import ScoreRow
from idlora_pl.results.scores_file import located, metric_names, read_scores, row_names


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
    ``method`` of a quoted row say which clips the published numbers are of, for `experiments/calibration`.
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


_TABLE_KEYS = {"caption", "columns", "rows", "paired", "command", "split"}
_COLUMN_KEYS = {"title", "better", "digits", "worst", "margin"}
_ROW_KEYS = {"label", "run", "sampling", "quoted", "source", "command", "against", "method"}
_ROW_TEXTS = ("label", "run", "sampling", "source", "command", "against")
_MOST_DIGITS = 15


def declared(path: Path, known: Mapping[str, Column]) -> tuple[dict[str, Any], list[Column]]:
    """Return the keys of a table yaml, all of them known and of their kind, and its columns.

    What a column does not say of its worst value and margin is taken from the known column of its name.

    Raises:
        ValueError: The file is no table yaml; the message names the key and the value.
    """
    held = load_yaml(path, "a scores.jsonl or a yaml of experiments/tables")
    content = as_mapping(held, _TABLE_KEYS, {"columns", "rows"}, str(path))
    for key in ("caption", "command", "split"):
        if key in content:
            as_text(content[key], f"{path}, {key}")
    by_metric = as_named(content["columns"], f"{path}, columns", "wer: {better: lower}")
    columns = [
        _column(metric, options, f"{path}, columns.{metric}", known.get(metric))
        for metric, options in by_metric.items()
    ]
    rows = as_list(content["rows"], f"{path}, rows", "[{label: ours, run: mine}]")
    for number, entry in enumerate(rows):
        _check_row(entry, f"{path}, rows[{number}]")
    _check_methods(rows, path)
    if "paired" in content:
        _check_pairs(content["paired"], path)
    return content, columns


def _column(metric: str, options: object, where: str, known: Column | None) -> Column:
    found = {"title": metric} | as_mapping(options, _COLUMN_KEYS, {"better"}, where)
    if known is not None:
        found = {"worst": known.worst, "margin": known.margin, "note": known.note} | found
    as_text(found["title"], f"{where}.title")
    if "digits" in found:
        as_count(found["digits"], f"{where}.digits", most=_MOST_DIGITS)
    for key in ("worst", "margin"):
        if found.get(key) is not None:
            as_number(found[key], f"{where}.{key}")
    if found.get("margin") is not None and found["margin"] <= 0:
        raise ValueError(f"{where}.margin must be above 0; got {found['margin']}")
    try:
        return Column(metric, **found)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: better must be higher, lower or near zero; got {found['better']!r}") from error


def _check_row(entry: object, where: str) -> None:
    row = as_mapping(entry, _ROW_KEYS, {"label"}, where)
    for key in _ROW_TEXTS:
        if key in row:
            as_text(row[key], f"{where}, {key}")
    if "quoted" in row:
        for metric, value in as_named(row["quoted"], f"{where}, quoted", "{wer: 0.113}").items():
            as_number(value, f"{where}, quoted.{metric}")


def _check_methods(rows: list[dict[str, Any]], path: Path) -> None:
    owner: dict[str, int] = {}
    for number, row in enumerate(rows):
        method = row.get("method")
        if method is not None and not (isinstance(method, str) and method):
            raise ValueError(f"{path}, rows[{number}]: method must be the name of a row of scores; got {method!r}")
        if method is not None and owner.setdefault(method, number) != number:
            raise ValueError(f"{path}, rows[{number}]: method '{method}' is that of rows[{owner[method]}]; correct one")


def _check_pairs(pairs: object, path: Path) -> None:
    if pairs == []:
        return
    for number, pair in enumerate(as_list(pairs, f"{path}, paired", "[[ours, theirs]]")):
        where = f"{path}, paired[{number}]"
        for label in as_list(pair, where, "[ours, theirs]", length=2):
            as_text(label, where)


def quoted_row(options: Mapping[str, Any], columns: list[Column], where: str) -> Row:
    """Return a row of published numbers."""
    if unknown := options["quoted"].keys() - {column.metric for column in columns}:
        raise ValueError(f"{where}: quoted names '{min(unknown)}', which is no column of this table")
    source, method = options.get("source", ""), options.get("method", "")
    return Row(options["label"], quoted=options["quoted"], source=source, method=method)


def table_from_scores(
    path: Path | str, known: Mapping[str, Column] = COLUMNS, paired: Sequence[tuple[str, str]] = ()
) -> tuple[Table, list[ScoreRow]]:
    """Make a table of all rows and all known scores of a ``scores.jsonl``, those of ``COLUMNS`` first.

    A score that no clip has is no column; a sentence under the table says so. Without `paired`, each row is compared
    with the one before it. A ``table.json`` beside the file gives the seconds.
    """
    path = Path(path)
    scores = read_scores(path)
    names = row_names(scores)
    held = metric_names(scores)
    known = {**COLUMNS, **known}
    empty = {name for name in held if all(score.scores.get(name) is None for score in scores)}
    columns = [known[name] for name in sorted(held, key=lambda name: name not in COLUMNS) if name in known]
    if len(empty & set(held)) < len(held):
        columns = [column for column in columns if column.metric not in empty]
    if not columns:
        raise ValueError(
            f"{path} holds {', '.join(held) or 'none'}, none of {', '.join(known)}; name the columns in a table yaml"
        )
    beside = path.with_name("table.json")
    seconds = json.loads(beside.read_text())["seconds"] if beside.is_file() else {}
    pairs = list(paired) or [(after, before) for before, after in pairwise(names)]
    table = build_table(scores, names, columns, pairs, seconds=seconds, caption=str(path))
    said = [_no_value(known[name], scores) for name in held if name in empty and name in known]
    unknown = [
        f"{name}: not in the table, because no scorer is known that gives it" for name in held if name not in known
    ]
    return replace(table, findings=(*table.findings, *said, *unknown)), located(scores, path.parent)


def _no_value(column: Column, scores: Sequence[ScoreRow]) -> str:
    """Say why a score has no column."""
    reasons = Counter(score.reasons[column.metric] for score in scores if column.metric in score.reasons)
    counted = ", ".join(f"{reason} {n}" for reason, n in reasons.most_common())
    return f"{column.title} ({column.metric}): no clip has a value ({counted})"
