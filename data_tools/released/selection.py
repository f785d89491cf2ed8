"""Which of the items that were read fit together into one set, lengths aside."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from data_tools.released.contents import Facts
from data_tools.released.layout import Kind
from data_tools.released.rules import Rules, numbers_of
from data_tools.verb.lists import Row
from idlora_pl.ltx2.presets import PRESETS, Preset, preset_named

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
