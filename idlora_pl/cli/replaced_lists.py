"""Configuration files and options before they are parsed: a value of theirs, and lists that a later one replaces.

A list that is replaced as a whole is said: nobody may have meant it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import yaml

from idlora_pl.files import read_text

_CONFIGS = ("-c", "--config")


def replaced_lists(arguments: Sequence[str]) -> list[str]:
    """Say which lists of configuration files are replaced by a later file or by an option.

    Args:
        arguments: Of the command line.

    Returns:
        A sentence for each. Numbers of the same count, such as two guidance scales, are a value and not a list.

    Raises:
        TextError: A configuration file is not UTF-8.
    """
    before: dict[str, tuple[str, list[Any]]] = {}
    said = []
    for source, values in _sources(arguments):
        is_file = not source.startswith("--")
        for key, value in _flat(values, before):
            place, old = before.get(key, ("", []))
            if old and value != old and not _are_one_value(old, value):
                append = f"{key.rpartition('.')[2]}+:" if is_file else f"{source}+="
                said.append(
                    f"{source} replaces {key} of {place}, which had {len(old)} ({', '.join(map(_name, old))}); "
                    f"to add to them, write `{append}` in its place"
                )
            if is_file and isinstance(value, list):
                before[key] = source, value
            elif old:
                del before[key]
    return said


def value_given(arguments: Sequence[str], key: str) -> Any:
    """Return the value that a key gets from configuration files and options, the last one's; None without any.

    Args:
        arguments: Of the command line.
        key: With dots, such as model.base.
    """
    found = None
    for _, values in _sources(arguments):
        found = dict(_flat(values, ())).get(key, found)
    return found


def _sources(arguments: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield files and options in their order, each with what it sets."""
    left = list(arguments)
    while left:
        argument = left.pop(0)
        name, equals, value = argument.partition("=")
        if argument.startswith("-c") and not equals and len(argument) > len("-c"):
            name, equals, value = "-c", "=", argument.removeprefix("-c")
        if name not in _CONFIGS and not argument.startswith("--"):
            continue
        if not equals and left and not left[0].startswith("--"):
            value = left.pop(0)
        if name in _CONFIGS:
            yield value, _parsed(read_text(value) if os.path.isfile(value) else value)
        else:
            yield name, {name.removeprefix("--"): _parsed(value)}


def _parsed(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _flat(values: Any, whole: Collection[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys with the values that are no mappings, or belong to a key that is wanted as a whole."""
    if isinstance(values, Mapping) and prefix not in whole:
        for name, value in values.items():
            yield from _flat(value, whole, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, values


def _are_one_value(old: list[Any], new: Any) -> bool:
    """Say whether both are numbers, as many as before."""
    return isinstance(new, list) and len(new) == len(old) and all(isinstance(one, int | float) for one in [*old, *new])


def _name(entry: Any) -> str:
    """Name an entry of a list: a class by its last name."""
    path = entry.get("class_path") if isinstance(entry, Mapping) else entry
    return str(path or "a mapping").rpartition(".")[2] if isinstance(path, str) else str(entry)[:40]
