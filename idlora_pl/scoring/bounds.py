"""Floors and ceilings: what a score comes to for the real clip, the speaker's other clips, and a stranger.

    target          the real clip itself
    same_speaker    another recording of the speaker, which is not the one that scores compare with
    other_speaker   the real clip of somebody else
    vae             the real clip through the codecs of a base model (idlora_pl/scoring/through_codecs.py)

Which clip stands in for which item is a pure function of the items and a seed, and is noted in the row.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from idlora_pl.scoring.clips import ClipSource, clip_sources, short_hash

Entry = Mapping[str, Any]
Bound = Literal["target", "same_speaker", "other_speaker", "vae"]


def bound_sources(entries: Sequence[Entry], bound: Bound, *, seed: int = 0) -> dict[str, ClipSource]:
    """Choose the clip of each entry.

    Args:
        entries: As `read_prompts` gives them.
        bound: "target", "same_speaker" or "other_speaker".
        seed: Of the choice.

    Raises:
        ValueError: An entry has no target where one is needed.
    """
    if bound == "target":
        return {name: ClipSource(source.path, notes={"bound": bound}) for name, source in clip_sources(entries).items()}
    return {entry["output_name"]: _chosen(entry, entries, bound, seed) for entry in entries}


def _chosen(entry: Entry, entries: Sequence[Entry], bound: Bound, seed: int) -> ClipSource:
    name = entry["output_name"]
    found = _same(entry, entries) if bound == "same_speaker" else _other(entry, entries)
    ranked = sorted(found, key=lambda one: _rank(seed, name, one[0]))
    notes = {"bound": bound, "bound_seed": str(seed)}
    if not ranked:
        return ClipSource(None, "no_other_clip" if bound == "same_speaker" else "no_other_speaker", notes)
    return ClipSource(Path(ranked[0][1]), notes=notes | {"bound_clip_of": ranked[0][0]})


def _speaker(entry: Entry) -> str:
    return str(entry["speaker"] or entry["output_name"])


def _same(entry: Entry, entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Return ("item part", path) of the speaker's recordings that scores of the entry do not compare with."""
    compared = entry["compare_path"] or entry["reference_path"]
    used = {short_hash(Path(path)) for path in (compared, entry["target_path"]) if path is not None}
    own = [other for other in entries if _speaker(other) == _speaker(entry)]
    return [(name, path) for name, path in _recordings(own) if short_hash(Path(path)) not in used]


def _recordings(entries: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for entry in sorted(entries, key=lambda one: str(one["output_name"])):
        for part in ("target", "reference"):
            path = entry[f"{part}_path"]
            if path is not None and (digest := short_hash(Path(path))) not in seen:
                seen.add(digest)
                yield f"{entry['output_name']} {part}", path


def _other(entry: Entry, entries: Sequence[Entry]) -> list[tuple[str, str]]:
    return [
        (f"{other['output_name']} target", other["target_path"])
        for other in entries
        if _speaker(other) != _speaker(entry) and other["target_path"] is not None
    ]


def _rank(seed: int, item: str, candidate: str) -> bytes:
    """Return a number that is drawn once for each (seed, item, candidate), the same on every machine."""
    return sha256(f"{seed}\0{item}\0{candidate}".encode()).digest()
