"""How far a table's intervals can be trusted, given how many speakers they stand on."""

from collections.abc import Iterable

TOO_FEW = 6
"""Below this many, a sign-flip test cannot come below p = 0.05, and an interval sees too little of the spread."""
FEW = 12
"""Below this many, the intervals cover less than they say (docs/scoring.md, tests/test_stats.py)."""


def few_speakers(counts: Iterable[int]) -> list[str]:
    """Return sentences about numbers that stand on few speakers; one speaker has no interval.

    Example:
        >>> few_speakers([8, 30])
        ['Intervals over 8 speakers are a little too narrow: they cover about 92 % instead of 95 %.']
    """
    found = sorted({count for count in counts if 1 < count < FEW})
    said = []
    if far := [count for count in found if count < TOO_FEW]:
        said.append(
            f"Intervals over so few speakers ({_span(far)}) are too narrow; read them as a spread, not as a bound."
        )
    if near := [count for count in found if count >= TOO_FEW]:
        said.append(
            f"Intervals over {_span(near)} speakers are a little too narrow: they cover about 92 % instead of 95 %."
        )
    return said


def _span(counts: list[int]) -> str:
    return f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
