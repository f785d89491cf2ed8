"""Measure an anchor: does the scorer give the value that is known?"""

import math
from pathlib import Path

from idlora_pl.media import MediaError
from idlora_pl.metrics.clip_mean import ClipMean
from idlora_pl.scorers.card import Anchor, UnusableInput
from idlora_pl.scorers.verified import Proof


def missing_inputs(anchor: Anchor, inputs: Path | None) -> list[str]:
    """Return the inputs of an anchor that are not in the folder; all of them where there is no folder."""
    return [name for name in anchor.inputs if inputs is None or not (inputs / name).exists()]


def prove(anchor: Anchor, metric: ClipMean, inputs: Path) -> Proof:
    """Measure an anchor whose inputs are there.

    A value that is missing fails it; the message says so. Errors of the scorer itself come through.

    Raises:
        UnusableInput: An input cannot be read or is not what it should be, so nothing is proved.
    """
    try:
        found = anchor.measure(metric, inputs)
    except (MediaError, OSError) as error:
        raise UnusableInput(str(error)) from error
    if missing := sorted(anchor.expected.keys() - found.keys()):
        return Proof(False, found, f"it gave no value for {', '.join(missing)}")
    return Proof(all(_within(anchor, name, found[name]) for name in anchor.expected), found)


def _within(anchor: Anchor, name: str, value: float) -> bool:
    return math.isfinite(value) and abs(value - anchor.expected[name]) <= anchor.tolerance[name]
