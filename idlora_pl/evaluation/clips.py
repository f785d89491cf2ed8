"""Which file is the clip of which item: by name in a folder, by method in the manifest, or a floor or ceiling.

    target          the real clip itself
    same_speaker    another recording of the speaker, which is not the one that scores compare with
    other_speaker   the real clip of somebody else
    vae             the real clip through the codecs of a base model (idlora_pl/evaluation/through_codecs.py)

Which clip stands in for which item is a pure function of the items and a seed, and is noted in the row.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

from idlora_pl.benchmark.items import Item
from idlora_pl.files import files_below, sha256_of

_CLIPS = (
    ".mp4",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".m4v",
    ".ts",
    ".flv",
    ".wmv",
    ".gif",
    ".ogv",
    ".3gp",
)
_BESIDE = (".json", ".jsonl", ".txt", ".srt", ".vtt", ".yaml", ".csv", ".md", ".png", ".jpg", ".jpeg", ".npy", ".pt")
"""Endings of what methods write beside a clip, and what is never taken for one."""


@dataclass(frozen=True)
class ClipSource:
    """The clip of one item, or why there is none.

    Attributes:
        path: The file, which need not exist; None where there is none to look for.
        reason: Reason code where there is none.
        notes: What the row should say about the choice.
    """

    path: Path | None
    reason: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)


def clip_sources(items: Sequence[Item], clips: Path | None = None, method: str | None = None) -> dict[str, ClipSource]:
    """Find the clip of each item, by its id.

    Args:
        items: As `read_prompts` gives them.
        clips: Folder with one file an item, named `<id>.<any ending>`; None takes the real targets.
        method: Take the clips that the manifest names for this method instead.

    Raises:
        ValueError: No item has a clip of the method, an item has no target, or a folder has two files of a name.
    """
    if method is not None:
        return _of_method(items, method)
    if clips is None:
        return _targets(items)
    if not clips.is_dir():
        raise ValueError(f"--clips {clips} is not a folder; give the folder that holds the clips")
    by_stem: dict[str, list[Path]] = {}
    for path in files_below(clips, deep=False):
        if path.is_file() and path.suffix.lower() not in _BESIDE:
            by_stem.setdefault(_plain(path.stem), []).append(path)
    return {item.id: ClipSource(_the_one(item, by_stem, clips)) for item in items}


def _plain(name: str) -> str:
    """Return a name in one Unicode form: file systems differ in theirs."""
    return unicodedata.normalize("NFC", name)


def _the_one(item: Item, by_stem: Mapping[str, Sequence[Path]], clips: Path) -> Path:
    """Return the file of an item; where there is none, the path at which it is missing."""
    name = item.id
    found = by_stem.get(_plain(name), [])
    if len(found) > 1:
        found = [path for path in found if path.suffix.lower() in _CLIPS] or found
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise ValueError(f"{clips} holds {names} for item '{name}'; leave one of them")
    return found[0] if found else clips / f"{name}.mp4"


def _of_method(items: Sequence[Item], method: str) -> dict[str, ClipSource]:
    known = list(dict.fromkeys(name for item in items for name in item.clips))
    if method not in known:
        raise ValueError(f"the manifest names no clip of method '{method}'; it has {', '.join(known) or 'none'}")
    return {
        item.id: ClipSource(item.clips.get(method), "" if method in item.clips else "clip_not_given") for item in items
    }


def _targets(items: Sequence[Item]) -> dict[str, ClipSource]:
    for item in items:
        if item.target is None:
            raise ValueError(f"item '{item.id}' has no target; give --clips FOLDER")
    return {item.id: ClipSource(item.target) for item in items}


def short_hash(path: Path) -> str:
    """Return the first 16 hex digits of a file's SHA-256."""
    return sha256_of(path)[:16]


Bound = Literal["target", "same_speaker", "other_speaker", "vae"]


def bound_sources(items: Sequence[Item], bound: Bound, *, seed: int = 0) -> dict[str, ClipSource]:
    """Choose the clip of each item.

    Args:
        items: As `read_prompts` gives them.
        bound: "target", "same_speaker" or "other_speaker".
        seed: Of the choice.

    Raises:
        ValueError: An item has no target where one is needed.
    """
    if bound == "target":
        return {name: ClipSource(source.path, notes={"bound": bound}) for name, source in clip_sources(items).items()}
    return {item.id: _chosen(item, items, bound, seed) for item in items}


def _chosen(item: Item, items: Sequence[Item], bound: Bound, seed: int) -> ClipSource:
    name = item.id
    found = _same(item, items) if bound == "same_speaker" else _other(item, items)
    ranked = sorted(found, key=lambda one: _rank(seed, name, one[0]))
    notes = {"bound": bound, "bound_seed": str(seed)}
    if not ranked:
        return ClipSource(None, "no_other_clip" if bound == "same_speaker" else "no_other_speaker", notes)
    return ClipSource(ranked[0][1], notes=notes | {"bound_clip_of": ranked[0][0]})


def _same(item: Item, items: Sequence[Item]) -> list[tuple[str, Path]]:
    """Return ("item part", path) of the speaker's recordings that scores of the item do not compare with."""
    compared = item.compare or item.reference
    used = {short_hash(path) for path in (compared, item.target) if path is not None}
    own = [other for other in items if other.person == item.person]
    return [(name, path) for name, path in _recordings(own) if short_hash(path) not in used]


def _recordings(items: Sequence[Item]) -> Iterator[tuple[str, Path]]:
    seen: set[str] = set()
    for item in sorted(items, key=lambda item: item.id):
        for part, path in (("target", item.target), ("reference", item.reference)):
            if path is not None and (digest := short_hash(path)) not in seen:
                seen.add(digest)
                yield f"{item.id} {part}", path


def _other(item: Item, items: Sequence[Item]) -> list[tuple[str, Path]]:
    return [
        (f"{other.id} target", other.target)
        for other in items
        if other.person != item.person and other.target is not None
    ]


def _rank(seed: int, item: str, candidate: str) -> bytes:
    """Return a number that is drawn once for each (seed, item, candidate), the same on every machine."""
    return sha256(f"{seed}\0{item}\0{candidate}".encode()).digest()
