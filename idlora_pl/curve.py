"""A score over time, and the words for values that may be none; without torch, so that tables are read quickly."""

from dataclasses import dataclass

AT_EDGE = "at the edge of the search"
BY_CHANCE = "with a correlation that unrelated curves reach"
DOUBTS = (AT_EDGE, BY_CHANCE)
"""Why a lag may be none; a scorer writes them into the detail `<score>_doubt` of a clip."""


@dataclass(frozen=True)
class Curve:
    """A score over time: values[i] belongs to the window that starts at start_s + i * step_s.

    Attributes:
        start_s: Start of the first window.
        step_s: From the start of a window to that of the next.
        values: The scores; None where there is none.
        marked: Places of values that may be none (see `DOUBTS`).
    """

    start_s: float
    step_s: float
    values: tuple[float | None, ...]
    marked: tuple[int, ...] = ()
