"""What to generate and to score: the JSON of the authors' batch scripts, and benchmark manifests, read as one.

Both become lists of entries, which are dicts with the keys of `KNOWN`. The schema of a manifest is in docs/scoring.md.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import DataLoader

from idlora_pl.data.entry import CAPTION, FORMAT, KNOWN, PATHS, PromptError, entry_of, key_of
from idlora_pl.distributed import shared_loader
from idlora_pl.files import read_json
from idlora_pl.media import read_image, read_voice

__all__ = ["CAPTION", "FORMAT", "KNOWN", "PATHS", "PromptError", "prompt_loader", "read_prompts", "refuse_unusable"]

_LISTS = ("samples", "variations", "items")
_MANIFEST_KEYS = ("format", "name", "items")


def read_prompts(
    path: str | Path, *, seed: int = 42, use: Literal["generation", "scoring"] = "generation"
) -> list[dict[str, Any]]:
    """Read a prompt file (a list of entries, or an object with it under `samples` or `variations`) or a manifest.

    An entry has `prompt`, and may have `reference_path` (voice), `first_frame_path` (face), `output_name`, `seed`;
    for scoring also `speaker`, `compare_path` (another clip of the speaker; the reference is taken where it is
    missing), `target_path` (the real clip), parts of the caption and clips of methods. An item of a manifest says the
    same as `id`, `reference`, `first_frame`, `compare`, `target` and `caption`. Paths are relative to the file.

    Args:
        path: JSON file.
        seed: Entry i without a seed of its own gets seed + i.
        use: For "generation" each entry needs a prompt; an entry that is only scored may lack one.

    Returns:
        Entries with all keys of `KNOWN` (None where absent) and paths made absolute.

    Raises:
        PromptError: When the file or an entry is not as described, or a path does not exist.
    """
    path = Path(path)
    items, in_manifest = _items(path)
    kind, word = ("manifest", "item") if in_manifest else ("prompt file", "entry")
    entries = [entry_of(item, index, path, seed, in_manifest=in_manifest) for index, item in enumerate(items)]
    if use == "generation" and (bare := [entry for entry in entries if entry["prompt"] is None]):
        raise PromptError(
            f"{kind} {path}: {word} '{bare[0]['output_name']}' has no prompt to generate from; "
            "give it 'prompt', or a caption with visual, speech and sounds"
        )
    names = Counter(unicodedata.normalize("NFC", entry["output_name"]) for entry in entries)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        key = key_of("output_name", in_manifest)
        raise PromptError(f"{kind} {path} uses {key} '{twice}' twice; give every {word} its own")
    return entries


def manifest_name(path: str | Path) -> str:
    """Return the name that a manifest gives itself; of other files that of the file."""
    found = _content(Path(path))
    name = found.get("name") if isinstance(found, dict) else None
    return str(name) if name else Path(path).stem


def refuse_unusable(entries: Sequence[Mapping[str, Any]]) -> None:
    """Read every face and every voice once, so that one that cannot be used is named before anything is sampled.

    Raises:
        MediaError: A face is no picture, or a voice is silent or holds something else than numbers.
    """
    for name, read in (("first_frame_path", read_image), ("reference_path", read_voice)):
        for path in dict.fromkeys(entry[name] for entry in entries if entry[name] is not None):
            read(path)


def _items(path: Path) -> tuple[list[object], bool]:
    """Return the list in a file, after the manifest around it was checked, and whether it is of a manifest."""
    found = _content(path)
    in_manifest = isinstance(found, dict) and "items" in found
    if in_manifest:
        if found.get("format") != FORMAT:
            raise PromptError(f"manifest {path} has format {found.get('format')!r}; this version reads '{FORMAT}'")
        if unknown := sorted(found.keys() - set(_MANIFEST_KEYS)):
            raise PromptError(
                f"manifest {path} has the unknown key '{unknown[0]}'; known are {', '.join(_MANIFEST_KEYS)}"
            )
    if isinstance(found, dict):
        found = next((found[name] for name in _LISTS if name in found), None)
    if not isinstance(found, list) or not found:
        if in_manifest:
            raise PromptError(f"manifest {path} holds no list of items; write {{'items': [{{'id': ...}}, ...]}}")
        raise PromptError(f"prompt file {path} holds no list of entries; write [{{'prompt': ...}}, ...]")
    return found, in_manifest


def _content(path: Path) -> Any:
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise PromptError(f"prompt file {path} does not exist; pass an existing JSON file") from error
    except ValueError as error:
        raise PromptError(f"prompt file {error}") from error


def prompt_loader(entries: Sequence[dict[str, Any]], batch_size: int) -> DataLoader[dict[str, Any]]:
    """Return a loader that gives lists of entries, each entry to one process."""
    return shared_loader(entries, batch_size)
