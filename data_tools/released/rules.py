"""The options that decide which items a shard set takes, and in which lengths.

T target and R reference audio tokens.
"""

from dataclasses import dataclass
from typing import Literal

from idlora_pl.ltx2.presets import PresetName

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
