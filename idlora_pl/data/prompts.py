"""Prompt files: what to generate, in the JSON of the authors' batch scripts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from idlora_pl.prompt import split_prompt

PATHS = ("reference_path", "first_frame_path", "target_path", "compare_path")
KNOWN = ("prompt", "output_name", "seed", "speaker", "environment", *PATHS)
_LISTS = ("samples", "variations")


class PromptError(ValueError):
    """A prompt file cannot be used; the message names the file, the entry and the fix."""


def read_prompts(path: str | Path, *, seed: int = 42) -> list[dict[str, Any]]:
    """Read a prompt file: a list of entries, or an object with the list under `samples` or `variations`.

    An entry has `prompt`, and may have `reference_path` (voice), `first_frame_path` (face), `output_name`, `seed`;
    for scoring also `speaker`, `compare_path` (another clip of the speaker; the reference is taken where it is
    missing) and `target_path` (the real clip). Paths are relative to the file.

    Args:
        path: JSON file.
        seed: Entry i without a seed of its own gets seed + i.

    Returns:
        Entries with all keys of `KNOWN` (None where absent) and paths made absolute.

    Raises:
        PromptError: When the file or an entry is not as described, or a path does not exist.
    """
    path = Path(path)
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise PromptError(f"prompt file {path} does not exist; pass an existing JSON file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PromptError(f"prompt file {path} is not JSON ({error}); correct it") from error
    if isinstance(found, dict):
        found = next((found[name] for name in _LISTS if name in found), None)
    if not isinstance(found, list) or not found:
        raise PromptError(f"prompt file {path} holds no list of entries; write [{{'prompt': ...}}, ...]")
    entries = [_entry(item, index, path, seed) for index, item in enumerate(found)]
    names = [entry["output_name"] for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise PromptError(f"prompt file {path} uses output_name '{twice}' twice; give every entry its own")
    return entries


def _entry(item: object, index: int, path: Path, seed: int) -> dict[str, Any]:
    where = f"prompt file {path}, entry {index}"
    if not isinstance(item, Mapping) or not isinstance(item.get("prompt"), str):
        raise PromptError(f"{where} has no text under 'prompt'; write at least {{'prompt': '...'}}")
    unknown = sorted(set(item) - set(KNOWN))
    if unknown:
        raise PromptError(f"{where} has the unknown key '{unknown[0]}'; known are {', '.join(KNOWN)}")
    try:
        split_prompt(item["prompt"])
    except ValueError as error:
        raise PromptError(f"{where}: {error}") from error
    entry: dict[str, Any] = {name: item.get(name) for name in KNOWN}
    entry["output_name"] = Path(str(entry["output_name"] or f"{index:04d}")).name.removesuffix(".mp4")
    entry["seed"] = seed + index if entry["seed"] is None else entry["seed"]
    if not isinstance(entry["seed"], int):
        raise PromptError(f"{where} has seed {entry['seed']!r}; write a whole number")
    for name in PATHS:
        if entry[name] is not None:
            located = path.parent / str(entry[name])
            if not located.is_file():
                raise PromptError(f"{where}: {name} '{entry[name]}' does not exist (looked at {located}); correct it")
            entry[name] = str(located)
    return entry


def prompt_loader(entries: Sequence[dict[str, Any]], batch_size: int) -> DataLoader[dict[str, Any]]:
    """Return a loader that gives lists of entries."""
    return DataLoader(entries, batch_size=batch_size, collate_fn=list, num_workers=0)  # type: ignore[arg-type]
