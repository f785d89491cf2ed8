"""Checks of yaml files that people write; errors name the file, the key, the value and what it must be."""

import math
from collections.abc import Set
from pathlib import Path
from typing import Any

import yaml

from idlora_pl.files import TextError, read_text


def load_yaml(path: Path, wanted: str) -> object:
    """Return what a yaml file holds.

    Args:
        path: The file.
        wanted: What to give instead where it does not exist.

    Raises:
        ValueError: The file does not exist or is no yaml.
    """
    try:
        return yaml.safe_load(read_text(path))
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist; give {wanted}") from error
    except TextError:
        raise
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise ValueError(f"{path} is not yaml ({' '.join(str(error).split())}); correct it") from error
    except RecursionError as error:
        raise ValueError(f"{path} is not yaml that can be read (nested too deeply); correct it") from error


def as_mapping(value: object, allowed: Set[str], needed: Set[str], where: str) -> dict[str, Any]:
    """Return a mapping whose keys were checked."""
    if not isinstance(value, dict):
        raise ValueError(f"{where}: must be a mapping with {', '.join(sorted(needed))}; got {value!r}")
    if unknown := sorted(map(str, value.keys() - allowed)):
        raise ValueError(f"{where}: unknown key '{unknown[0]}'; known are {', '.join(sorted(allowed))}")
    if missing := needed - value.keys():
        raise ValueError(f"{where}: the key '{min(missing)}' is missing")
    return value


def as_named(value: object, where: str, example: str) -> dict[str, Any]:
    """Return a mapping of names to anything, with one name at least."""
    if not isinstance(value, dict) or not value or not all(isinstance(key, str) and key for key in value):
        raise ValueError(f"{where} must be a mapping with names as keys, such as {example}; got {value!r}")
    return value


def as_list(value: object, where: str, example: str, length: int | None = None) -> list[Any]:
    """Return a list with one entry at least, or of a certain length."""
    if not isinstance(value, list) or not value or length not in (None, len(value)):
        raise ValueError(f"{where} must be a list, such as {example}; got {value!r}")
    return value


def as_text(value: object, where: str) -> str:
    """Return text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where} must be text; got {value!r}; write it in quotes")
    return value


def as_number(value: object, where: str) -> float:
    """Return a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where} must be a number; got {value!r}")
    return value


def as_count(value: object, where: str, least: int = 0, most: int = 10**6) -> int:
    """Return a whole number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{where} must be a whole number from {least} to {most}; got {value!r}")
    return value


def is_published_study(path: Path) -> bool:
    """Tell whether a file is a yaml of published study results, and not a table of scores."""
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return False
    return any(line.startswith("kind:") for line in path.read_text(encoding="utf-8", errors="replace").split("\n"))
