"""Which item goes into which shard set, at which place, and in which lengths.

T target and R reference audio tokens.
"""

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data_tools.released.rules import Rules, numbers_of
from data_tools.released.selection import Candidate, Selection, select
from data_tools.verb.lists import Row
from idlora_pl.ltx2.presets import Preset

_UNUSUAL = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_KEY = 80


@dataclass(frozen=True)
class SetPlan:
    """One shard set.

    Attributes:
        name: folder inside the output, "" for the output itself.
        target_tokens: T of every sample.
        reference_tokens: R of every sample.
        items: in the order of the shards.
    """

    name: str
    target_tokens: int
    reference_tokens: int
    items: tuple[Candidate, ...]

    def changes(self) -> dict[str, dict[str, int]]:
        """Count items by how many tokens their sounds lose, or gain in padding when negative; 0 is left out."""
        changed = {
            "target": Counter(item.facts.target_tokens - self.target_tokens for item in self.items),
            "reference": Counter(item.facts.reference_tokens - self.reference_tokens for item in self.items),
        }
        return {name: {str(k): found[k] for k in sorted(found) if k} for name, found in changed.items()}


@dataclass(frozen=True)
class Plan:
    """All that is written and all that is not.

    Attributes:
        base: the base model of the latents and the text; None when there is nothing to write.
        sets: shard sets, sorted by name.
        keys: the key of every item that is written.
        rejected: rows of the report for items that were read but do not fit.
    """

    base: Preset | None
    sets: tuple[SetPlan, ...]
    keys: dict[str, str]
    rejected: list[Row]

    @property
    def n_items(self) -> int:
        """Items that are written."""
        return len(self.keys)


def make_plan(candidates: Iterable[Candidate], rules: Rules, *, seed: int | None) -> Plan:
    """Decide on everything; equal candidates and rules give equal plans.

    Args:
        candidates: items that were read without fault.
        rules: the options.
        seed: of the order; None keeps the order in which items were found.

    Raises:
        ValueError: when most items belong to no base model, or a wanted length is outside the allowed range.
    """
    chosen, base = select(candidates, rules)
    if base is None:
        return Plan(None, (), {}, chosen.rejected)
    _keep_lengths(chosen, rules, base)
    groups: dict[tuple[int, int], list[Candidate]] = {}
    wanted = _wanted(chosen.left, rules)
    for item in sorted(chosen.left, key=lambda found: found.name if seed is not None else found.order):
        lengths = (item.facts.target_tokens, item.facts.reference_tokens) if wanted is None else wanted
        groups.setdefault(lengths, []).append(item)
    sets = []
    for (n_target, n_reference), items in sorted(groups.items()):
        if seed is not None:
            random.Random(seed).shuffle(items)
        name = f"t{n_target}-r{n_reference}" if rules.lengths == "split" else ""
        sets.append(SetPlan(name, n_target, n_reference, tuple(items)))
    return Plan(base, tuple(sets), _keys(chosen.left), chosen.rejected)


def _keep_lengths(chosen: Selection, rules: Rules, base: Preset) -> None:
    """Reject sounds outside the allowed range, or on the wrong side of a wanted length."""
    if not chosen.left:
        return
    video, audio = base.geometry.video, base.geometry.audio
    n_frames = (chosen.left[0].facts.grid[1] - 1) * video.temporal_stride + 1
    usual = audio.n_tokens(n_frames / video.frame_rate_fps)
    given = {
        "target": (rules.target_tokens, numbers_of(rules.target_range, 2, "-", "target_range")),
        "reference": (rules.reference_tokens, numbers_of(rules.reference_range, 2, "-", "reference_range")),
    }
    for name, (tokens, allowed) in given.items():
        lowest, highest = allowed or (max(1, usual - 1), usual + 1)
        if tokens is not None and not lowest <= tokens <= highest:
            raise ValueError(
                f"{name}_tokens {tokens} is outside {lowest}-{highest}, what is allowed for {n_frames} frames; "
                f"widen it with --{name}_range"
            )
        lowest = tokens if tokens is not None and rules.lengths == "cut" else lowest
        highest = tokens if tokens is not None and rules.lengths == "pad" else highest
        _keep_length(chosen, name, lowest, highest)


def _keep_length(chosen: Selection, name: str, lowest: int, highest: int) -> None:
    option = f"--{name}_range" if lowest < highest else f"--{name}_tokens"
    kind = "audio_latents" if name == "target" else "reference"

    def fault(facts: object) -> str | None:
        found = getattr(facts, f"{name}_tokens")
        text = f"has {found} audio tokens, {lowest} to {highest} are allowed; see {option}"
        return None if lowest <= found <= highest else text

    chosen.keep(kind, "length", fault)  # type: ignore[arg-type]


def _wanted(items: Sequence[Candidate], rules: Rules) -> tuple[int, int] | None:
    """Return T and R of the only set; None for a set of every length."""
    if rules.lengths == "split" or not items:
        return None
    pick = min if rules.lengths == "cut" else max
    return (
        rules.target_tokens or pick(item.facts.target_tokens for item in items),
        rules.reference_tokens or pick(item.facts.reference_tokens for item in items),
    )


def _keys(items: Sequence[Candidate]) -> dict[str, str]:
    """Return a key for every item: its path with __ between folders, and a checksum where that is not enough."""
    plain = {item.name: item.name.replace("/", "__") for item in items}
    shared = Counter(plain.values())
    keys = {}
    for name, key in plain.items():
        if shared[key] > 1 or len(key) > _LONGEST_KEY or _UNUSUAL.search(key):
            mark = hashlib.sha256(name.encode()).hexdigest()[:12]
            key = f"{_UNUSUAL.sub('_', key)[: _LONGEST_KEY - 13]}-{mark}"
        keys[name] = key
    if len(set(keys.values())) < len(keys):
        raise ValueError("two items get one key because a file is called like a key made here; rename that file")
    return keys
