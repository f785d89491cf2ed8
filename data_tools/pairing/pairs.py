"""Which clip lends its voice to which target: a pure function of the clips, a rule and a seed.

The choice for one target depends on nothing but that target and its candidates, so the order of the list does
not matter and a clip that is added later changes no pair that it is not chosen for.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from idlora_pl.data.voices import both_known, known_apart

PairRule = Literal["same_video", "cross_video", "cross_environment"]


@dataclass(frozen=True)
class ClipRecord:
    """One cut clip.

    Attributes:
        key: unique name.
        speaker: who talks.
        source: the video that the clip was cut from, "" when unknown.
        environment: where it was recorded, "" when unknown.
    """

    key: str
    speaker: str
    source: str
    environment: str = ""


@dataclass(frozen=True)
class Pair:
    """A target clip and the clip whose voice it is given, by key."""

    target: str
    reference: str


@dataclass(frozen=True)
class Pairing:
    """All pairs, sorted by target, and the keys of the targets that no clip can serve."""

    pairs: tuple[Pair, ...]
    unpaired: tuple[str, ...]


def pair_clips(
    records: Sequence[ClipRecord], rule: PairRule = "cross_video", *, seed: int = 0, per_target: int = 1
) -> Pairing:
    """Choose references for every clip among the clips of the same speaker.

    Args:
        records: the clips; keys must be unique.
        rule: where the reference comes from. same_video: another clip of the same video; cross_video: another
            video; cross_environment: another video from another environment. What is unknown is neither the same
            nor another.
        seed: of the choice.
        per_target: how many references a target gets at most, each in its own pair.

    Raises:
        ValueError: when the rule is unknown, per_target is not positive or a key is not unique.

    Example:
        >>> clips = [ClipRecord("a", "ann", "v1"), ClipRecord("b", "ann", "v2"), ClipRecord("c", "bob", "v3")]
        >>> pair_clips(clips).pairs
        (Pair(target='a', reference='b'), Pair(target='b', reference='a'))
        >>> pair_clips(clips).unpaired
        ('c',)
    """
    if rule not in get_args(PairRule):
        raise ValueError(f"rule must be one of {', '.join(get_args(PairRule))}; got '{rule}'")
    if per_target < 1:
        raise ValueError(f"per_target must be at least 1; got {per_target}")
    by_speaker: dict[str, list[ClipRecord]] = defaultdict(list)
    seen: set[str] = set()
    for record in sorted(records, key=lambda record: record.key):
        if record.key in seen:
            raise ValueError(f"clip key '{record.key}' is there twice; give every clip its own key")
        seen.add(record.key)
        by_speaker[record.speaker].append(record)
    pairs: list[Pair] = []
    unpaired: list[str] = []
    for target in sorted(records, key=lambda record: record.key):
        candidates = [other for other in by_speaker[target.speaker] if _allowed(target, other, rule)]
        chosen = sorted(candidates, key=lambda other: _rank(seed, target.key, other.key))[:per_target]
        pairs += [Pair(target.key, other.key) for other in chosen]
        unpaired += [] if chosen else [target.key]
    return Pairing(tuple(pairs), tuple(unpaired))


def _allowed(target: ClipRecord, other: ClipRecord, rule: PairRule) -> bool:
    """Say whether `other` may lend its voice to `target` (both of one speaker)."""
    sources = (other.source, target.source)
    if rule == "same_video":
        return both_known(*sources) and other.source == target.source and other.key != target.key
    environments = [(other.environment, target.environment)] if rule == "cross_environment" else []
    return all(known_apart(*pair) for pair in (sources, *environments))


def _rank(seed: int, target: str, other: str) -> bytes:
    """Return a number that is drawn once for each (seed, target, candidate), the same on every machine."""
    return hashlib.sha256(f"{seed}\0{target}\0{other}".encode()).digest()
