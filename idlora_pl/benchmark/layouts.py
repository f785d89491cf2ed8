"""The benchmarks of the paper: how many items, whose, and whether a manifest has them.

What is known stands in the project page's repository (facts collected on 2026-03-24): 35 pairs of 8 speakers in the
hard CelebV-HQ split, by number; 49 videos of 41 speakers in the TalkVid test set; the easy CelebV-HQ split is of
about the size of the hard one. Items are called `speaker_<speaker>_pair<number>` there.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from idlora_pl.benchmark.items import Item, PromptError

HARD_PAIRS = {
    203: (0, 8, 18),
    714: (1, 9),
    83: (4, 12, 17, 20, 22, 25, 28, 33),
    154: (2, 10, 16, 19, 23, 27),
    186: (5, 13, 26, 29, 31),
    49: (6, 14, 21, 24, 30, 32, 34),
    2399: (7, 15),
    844: (3, 11),
}
"""Pairs of the hard split by speaker. That pair 4 is of speaker 83 is inferred from the order, not published."""

_ID = re.compile(r"speaker_(\d+)_pair(\d+)")


@dataclass(frozen=True)
class Layout:
    """What is published of one split.

    Attributes:
        n_items: How many items it has; None where that is not published.
        n_speakers: How many people speak; None where that is not published.
        videos: Whether reference and target come from one video or from two.
        pairs: Numbers of the pairs by speaker, where they are known.
    """

    n_items: int | None = None
    n_speakers: int | None = None
    videos: Literal["same", "different", "unknown"] = "unknown"
    pairs: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


LAYOUTS = {
    "celebvhq_hard": Layout(35, 8, "different", HARD_PAIRS),
    "celebvhq_easy": Layout(videos="same"),
    "talkvid": Layout(49, 41),
}


def split_counts(items: Sequence[Item]) -> dict[str, tuple[int, int]]:
    """Return (items, speakers) of each split."""
    splits: dict[str, list[Item]] = {}
    for item in items:
        splits.setdefault(str(item.split or ""), []).append(item)
    return {name: (len(found), len({item.person for item in found})) for name, found in splits.items()}


def completeness(items: Sequence[Item]) -> list[str]:
    """Say, for each split that the paper knows, how much of it is there."""
    lines = []
    for name, (n_items, n_speakers) in split_counts(items).items():
        layout = LAYOUTS.get(name)
        if layout is None:
            lines.append(f"{name or 'no split'}: {n_items} items of {n_speakers} speakers")
            continue
        size = f"{n_items} of {layout.n_items} items" if layout.n_items else f"{n_items} items (size not published)"
        people = f"{n_speakers} of {layout.n_speakers} speakers" if layout.n_speakers else f"{n_speakers} speakers"
        whole = "" if (n_items, n_speakers) == (layout.n_items, layout.n_speakers) else ": not the published set"
        lines.append(f"{name}: {size}, {people}{whole if layout.n_items else ''}")
    return lines


def check_layout(items: Sequence[Item]) -> None:
    """Refuse items that contradict what is published of their split.

    Raises:
        PromptError: A pair of the hard split is of another speaker, or reference and target come from one video
            where they must not (or from two where they must not); the message names the item.
    """
    for item in items:
        for fault in _faults(item, LAYOUTS.get(str(item.split), Layout())):
            raise PromptError(f"item '{item.id}' is no item of {item.split}: {fault}; correct its split")


def _faults(item: Item, layout: Layout) -> Iterator[str]:
    named = _ID.fullmatch(item.id)
    if named and layout.pairs:
        speaker, pair = int(named[1]), int(named[2])
        if pair not in layout.pairs.get(speaker, ()):
            owner = next((who for who, pairs in layout.pairs.items() if pair in pairs), None)
            yield f"pair {pair} is of speaker {owner}" if owner is not None else f"there is no pair {pair}"
    source, reference = item.source, item.reference_source
    if source is None or reference is None or layout.videos == "unknown":
        return
    if (source == reference) != (layout.videos == "same"):
        yield f"reference and target must come from {layout.videos} videos, they come from {reference} and {source}"
