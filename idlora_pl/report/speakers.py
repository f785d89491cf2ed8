"""How far a table's numbers can be trusted, given how many speakers they stand on."""

from collections.abc import Iterable

TOO_FEW = 6
"""Below this many, a sign-flip test cannot come below p = 0.05, and nothing is decided."""
FEW = 12
"""Below this many, intervals hold only where speakers scatter about normally (docs/scoring.md)."""


def few_speakers(counts: Iterable[int]) -> list[str]:
    """Return sentences about numbers and paired differences that stand on few speakers.

    Example:
        >>> few_speakers([8, 30])
        ['Intervals over 8 speakers hold where speakers scatter normally; with skewed ones they cover less.']
    """
    found = sorted({count for count in counts if 0 < count < FEW})
    said = []
    if 1 in found:
        said.append("Over one speaker there is no interval and no p: nothing shows how far others would differ.")
        found.remove(1)
    if far := [count for count in found if count < TOO_FEW]:
        said.append(
            f"So few speakers ({_span(far)}) decide nothing: a sign-flip test needs {TOO_FEW} to come below p = 0.05, "
            "and the intervals hold only where speakers scatter normally."
        )
    if near := [count for count in found if count >= TOO_FEW]:
        said.append(
            f"Intervals over {_span(near)} speakers hold where speakers scatter normally; with skewed ones they cover "
            "less."
        )
    return said


def _span(counts: list[int]) -> str:
    return f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
