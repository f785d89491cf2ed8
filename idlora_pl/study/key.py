"""The key of a study, which names items and methods of every trial, read back with everything checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from idlora_pl import files

VALUES = {"ab": ("left", "tie", "right"), "mos": ("1", "2", "3", "4", "5")}
"""What may be answered, by kind of study."""
_PARTS = {"study": str, "kind": str, "questions": dict, "trials": dict, "sides": dict, "attention": dict}


def read_json(path: Path, fix: str) -> Any:
    """Return what a JSON file holds.

    Raises:
        ValueError: It is none; the message ends with `fix`.
    """
    try:
        return files.read_json(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{str(error).removesuffix('; correct it')}; {fix}") from error


def read_key(folder: Path) -> dict[str, Any]:
    """Read the key of a study.

    Raises:
        ValueError: The folder holds none, or the file is none that `idlora study make` wrote.
    """
    path, fix = folder / "key.json", "restore the file that `idlora study make` wrote"
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give the folder that `idlora study make` wrote")
    key = read_json(path, fix)
    if wrong := _wrong(key):
        raise ValueError(f"{path}: no key of a study: {wrong}; {fix}")
    found: dict[str, Any] = key
    return found


def _wrong(key: object) -> str:
    """Say what is wrong with a key; nothing if it is one."""
    if not isinstance(key, dict):
        return f"it must be an object; got {key!r:.60}"
    for name, kind in _PARTS.items():
        if not isinstance(key.get(name), kind) or (name != "attention" and not key[name]):
            return f"'{name}' is missing or of another kind"
    if key["kind"] not in VALUES:
        return f"'kind' must be ab or mos; got {key['kind']!r}"
    for name, trial in key["trials"].items():
        if not _is_trial(trial, {"ab": 2, "mos": 1}[key["kind"]]):
            return f"trial '{name}' must have an item and its methods; got {trial!r:.80}"
    if wrong := [one for one in key["attention"].values() if one not in VALUES[key["kind"]]]:
        return f"'attention' asks for {wrong[0]!r:.40}"
    return _wrong_sides(key)


def _is_trial(trial: object, n_methods: int) -> bool:
    if not isinstance(trial, dict) or not isinstance(trial.get("item"), str):
        return False
    methods = trial.get("methods")
    return isinstance(methods, list) and len(methods) == n_methods and all(isinstance(one, str) for one in methods)


def _wrong_sides(key: Mapping[str, Any]) -> str:
    for rater, sides in key["sides"].items():
        for name, trial in key["trials"].items():
            shown = sides.get(name) if isinstance(sides, dict) else None
            if not isinstance(shown, list) or sorted(map(str, shown)) != sorted(trial["methods"]):
                return f"'sides' of rater '{rater}' do not hold the methods of trial '{name}'"
    return ""
