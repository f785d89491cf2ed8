"""What a table yaml declares, with every key and value checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from idlora_pl.report.table import Column, Row
from idlora_pl.yaml_checks import as_count, as_list, as_mapping, as_named, as_number, as_text, load_yaml

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
