"""The published side: which methods a table quotes, and which row of ``scores.jsonl`` has the clips of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from idlora_pl.report.source import declared, quoted_row
from idlora_pl.report.table import Column


@dataclass(frozen=True)
class Method:
    """A method whose clips are scored and whose numbers are published.

    Attributes:
        name: Row of ``scores.jsonl``.
        label: Row of the published table.
        quoted: Published value by column.
    """

    name: str
    label: str
    quoted: Mapping[str, float]


@dataclass(frozen=True)
class Published:
    """A published table.

    Attributes:
        path: The yaml that quotes it.
        caption: Its caption.
        split: The split that its numbers are of; "" where the file does not say.
        columns: Its columns.
        methods: Its quoted rows that have a method.
        nameless: Labels of its quoted rows without one.
    """

    path: Path
    caption: str
    split: str
    columns: tuple[Column, ...]
    methods: tuple[Method, ...]
    nameless: tuple[str, ...]


def read_published(path: Path, named: Mapping[str, str] | None = None) -> Published:
    """Read the quoted rows of a table yaml; their key ``method`` names the row of their clips.

    Args:
        path: The file; its runs are not looked at.
        named: Label by method, over what the file says.

    Raises:
        ValueError: The file is no table, quotes nothing, or two methods belong to one row.
    """
    content, columns = declared(path, {})
    rows = [
        quoted_row(entry, columns, f"{path}, rows[{number}]")
        for number, entry in enumerate(content["rows"])
        if "quoted" in entry
    ]
    if not rows:
        raise ValueError(f"{path} quotes no row; give a table with published numbers, as main_celebvhq_hard.yaml")
    labels = {row.label: row.method for row in rows}
    named = named or {}
    if len(set(named.values())) < len(named):
        raise ValueError(f"two --method name one row of {path} ({', '.join(named.values())}); give each row once")
    for method, label in named.items():
        if label not in labels:
            raise ValueError(f"--method {method}={label}: {path} quotes no row '{label}'; it has {', '.join(labels)}")
        labels = {one: "" if name == method else name for one, name in labels.items()} | {label: method}
    methods = tuple(Method(labels[row.label], row.label, row.quoted or {}) for row in rows if labels[row.label])
    nameless = tuple(label for label, method in labels.items() if not method)
    caption, split = str(content.get("caption", "")), str(content.get("split", ""))
    return Published(path, caption, split, tuple(columns), methods, nameless)


def refuse_unknown(published: Published, rows: Sequence[str], named: Sequence[str], where: str) -> None:
    """Raise ValueError for a method that is no row of the scores and is misspelt, or that was given by hand.

    A method that simply was not scored is no error: it is named in the result.

    Args:
        published: The table.
        rows: Rows of the scores.
        named: Methods that the user gave.
        where: The file of scores, for the message.
    """
    listed = ", ".join(rows)
    names = [method.name for method in published.methods]
    if wrong := [name for name in named if name not in rows]:
        raise ValueError(f"--method {wrong[0]}: {where} has no row of that name; it has {listed}")
    left = [row for row in rows if row not in names]
    for name in (name for name in names if name not in rows):
        if near := get_close_matches(name, left, n=1, cutoff=0.75):
            raise ValueError(
                f"{published.path}: method '{name}' is no row of {where}; did you mean '{near[0]}'? It has {listed}"
            )
    if not set(names) & set(rows):
        raise ValueError(
            f"{where} has no row of a method of {published.path} ({', '.join(names) or 'which names none'}); it has "
            f"{listed}; say which is which with --method ROW='LABEL OF THE TABLE'"
        )
