"""Which items fit together, and which goes into which shard set, at which place, and in which lengths.

T target and R reference audio tokens.
"""

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from data_tools.released.layout import Kind
from data_tools.released.reading import Facts
from data_tools.verb.lists import Row
from idlora_pl.ltx2.presets import PRESETS, Preset, PresetName, preset_named

Lengths = Literal["cut", "split", "pad"]
Precision = Literal["refuse", "convert"]


@dataclass(frozen=True)
class Rules:
    """Options that decide what is written; the names are those of the command.

    Attributes:
        lengths: one length by cutting or by padding with zeros, or a set for every length.
        target_tokens: T of the set; None for the shortest (cut) or the longest (pad) that is there.
        reference_tokens: R of the set, likewise.
        target_range: T that is allowed, "120-122"; None for one token around the length of the frames.
        reference_range: R that is allowed, likewise.
        base: the base model; None for the one whose text widths the most items have.
        grid: latent frames x rows x columns; None for those that the most items have.
        fps_tolerance: how far a rate may lie from the base's.
        missing_fps: the rate of files that say none; None refuses them.
        precision: what happens to another precision than the authors' tools store.
    """

    lengths: Lengths = "cut"
    target_tokens: int | None = None
    reference_tokens: int | None = None
    target_range: str | None = None
    reference_range: str | None = None
    base: PresetName | None = None
    grid: str | None = None
    fps_tolerance: float = 0.05
    missing_fps: float | None = None
    precision: Precision = "refuse"

    def __post_init__(self) -> None:
        """Refuse values that exclude each other."""
        wanted = {"target_tokens": self.target_tokens, "reference_tokens": self.reference_tokens}
        for name, value in wanted.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}")
            if value is not None and self.lengths == "split":
                raise ValueError(f"lengths 'split' makes a set for every length; leave out --{name}, or use cut or pad")
        for name, text in (("target_range", self.target_range), ("reference_range", self.reference_range)):
            numbers_of(text, 2, "-", name)
        numbers_of(self.grid, 3, "x", "grid")


def numbers_of(text: str | None, count: int, mark: str, name: str) -> tuple[int, ...] | None:
    """Return the numbers of "120-122" or "16x16x16".

    Raises:
        ValueError: when the text is something else, or a range that ends before it starts.
    """
    if text is None:
        return None
    parts = text.split(mark)
    numbers = tuple(int(part) for part in parts if part.isdecimal())
    if len(parts) != count or len(numbers) != count or 0 in numbers or (mark == "-" and numbers[0] > numbers[1]):
        example = "120-122" if mark == "-" else "16x16x16"
        raise ValueError(f"{name} must look like {example}; got '{text}'")
    return numbers


Value = TypeVar("Value", bound=Hashable)
# Of video, sound, voice and the two texts, as the authors' tools store them.
PRECISIONS = ("bfloat16", "float32", "float32", "bfloat16", "bfloat16")
_PRECISION_KINDS: tuple[Kind, ...] = ("latents", "audio_latents", "reference", "conditions", "conditions")


@dataclass(frozen=True)
class Candidate:
    """An item that was read without fault."""

    name: str
    order: int
    shown: Mapping[Kind, str]
    facts: Facts


@dataclass
class Selection:
    """Items that are left, and rows of the report for the others."""

    left: list[Candidate]
    rejected: list[Row]

    def keep(self, kind: Kind, reason: str, fault: Callable[[Facts], str | None]) -> None:
        """Reject those for which `fault` gives a sentence."""
        kept = []
        for candidate in self.left:
            text = fault(candidate.facts)
            if text is None:
                kept.append(candidate)
            else:
                file = candidate.shown[kind]
                row = {"key": candidate.name, "file": file, "reason": reason, "detail": f"{file} {text}"}
                self.rejected.append(row)
        self.left = kept

    def usual(self, value: Callable[[Facts], Value], among: Callable[[Facts], bool] = lambda _: True) -> Value | None:
        """Return the value that most items have; of equally frequent ones the largest, None without items."""
        counts = Counter(value(candidate.facts) for candidate in self.left if among(candidate.facts))
        return max(counts, key=lambda found: (counts[found], str(found)), default=None)


def select(candidates: Iterable[Candidate], rules: Rules) -> tuple[Selection, Preset | None]:
    """Keep the items that fit together, and find their base model; None where there is no item at all.

    Raises:
        ValueError: when the text features of most items are those of no base model.
    """
    chosen = Selection(list(candidates), [])
    widths = preset_named(rules.base).text_channels if rules.base else None
    text = chosen.usual(lambda facts: facts.text, lambda facts: widths in (None, facts.text[2:]))
    base = preset_named(rules.base) if rules.base else _base_of(text)
    if base is None:
        return chosen, None
    wanted = f"{base.name} has {_text(text)}" if text else f"{base.name} has widths {_by(base.text_channels)}"

    def text_fault(facts: Facts) -> str | None:
        return None if facts.text == text else f"has text {_text(facts.text)}, the set for {wanted}; see --base"

    chosen.keep("conditions", "other_text", text_fault)
    _keep_grid(chosen, rules, base)
    _keep_rate(chosen, rules, base)
    if rules.precision == "refuse":
        for index, kind in enumerate(_PRECISION_KINDS):
            chosen.keep(kind, "wrong_dtype", _other_precision(index))
    return chosen, base


def _keep_grid(chosen: Selection, rules: Rules, base: Preset) -> None:
    """Reject channels that the base does not read, and grids that are not the set's."""
    wide = base.token_channels

    def channel_fault(facts: Facts) -> str | None:
        found = facts.grid[0], facts.audio[0] * facts.audio[1]
        text = f"has tokens of {_by(found)} channels, {base.name} has {_by(wide)}; encode the clip again"
        return None if found == wide else text

    chosen.keep("latents", "other_base", channel_fault)
    grid = numbers_of(rules.grid, 3, "x", "grid") or chosen.usual(lambda facts: facts.grid[1:])
    audio = chosen.usual(lambda facts: facts.audio)

    def grid_fault(facts: Facts) -> str | None:
        found = _by(facts.grid[1:])
        text = f"has the latent grid {found}, the set has {_by(grid)}; import it on its own with --grid {found}"
        return None if facts.grid[1:] == grid else text

    def audio_fault(facts: Facts) -> str | None:
        return None if facts.audio == audio else f"has sound of {_by(facts.audio)}, the set has {_by(audio)}"

    chosen.keep("latents", "other_grid", grid_fault)
    chosen.keep("audio_latents", "other_grid", audio_fault)


def _keep_rate(chosen: Selection, rules: Rules, base: Preset) -> None:
    """Reject frame rates that the base model's positions do not know."""
    rate_fps = base.geometry.video.frame_rate_fps

    def rate_fault(facts: Facts) -> str | None:
        fps = rules.missing_fps if facts.fps is None else facts.fps
        if fps is None:
            return "says no frame rate; if you know it, give --missing_fps"
        if abs(fps - rate_fps) > rules.fps_tolerance:
            return f"holds {fps:g} fps, {base.name} places frames at {rate_fps:g}; encode the clip again at that rate"
        return None

    chosen.keep("latents", "other_fps", rate_fault)


def _other_precision(index: int) -> Callable[[Facts], str | None]:
    wanted = PRECISIONS[index]

    def fault(facts: Facts) -> str | None:
        found = facts.precisions[index]
        return (
            None if found == wanted else f"is in {found}, the set in {wanted}; to convert it give --precision convert"
        )

    return fault


def _base_of(text: tuple[str | int, ...] | None) -> Preset | None:
    """Return the base model that reads text of these widths; None without items."""
    if text is None:
        return None
    found = [preset for preset in PRESETS.values() if preset.text_channels == text[2:]]
    if not found:
        known = ", ".join(f"{_by(preset.text_channels)} {preset.name}" for preset in PRESETS.values())
        raise ValueError(f"most items have text features of widths {_by(text[2:])}, no base model does ({known})")
    return found[0]


def _text(text: tuple[str | int, ...]) -> str:
    kind = "one tensor" if text[0] == "single" else "two tensors"
    return f"in {kind} of {text[1]} tokens and widths {_by(text[2:])}"


def _by(numbers: Iterable[object] | None) -> str:
    return "x".join(map(str, numbers or ()))


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
