"""A score over time, without torch, so that tables are read and written quickly."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Curve:
    """A score over time: values[i] belongs to the window that starts at start_s + i * step_s."""

    start_s: float
    step_s: float
    values: tuple[float | None, ...]
