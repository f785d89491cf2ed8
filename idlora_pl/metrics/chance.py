"""How high curves of mouth and sound that have nothing to do with each other correlate."""

import math

CHANCE = (
    (1.0, 0.60, 0.80),
    (1.3, 0.54, 0.74),
    (2.0, 0.42, 0.59),
    (3.0, 0.34, 0.49),
    (5.0, 0.26, 0.38),
    (10.0, 0.18, 0.27),
    (20.0, 0.13, 0.19),
)
"""Seconds, and the highest correlation of unrelated curves among lags of up to 10 frames: its mean, and what one of
twenty exceeds. From 4000 pairs of noise of 2 to 8 Hz: `python experiments/simulate_intervals.py --only lags`."""


def chance_correlation(duration_s: float) -> tuple[float, float]:
    """Return how high the correlation of unrelated curves comes at its best lag: on average, and in one case of twenty.

    Args:
        duration_s: Length of the curves; from 1 s to 20 s what `CHANCE` holds is interpolated.

    Example:
        >>> chance_correlation(3.0), chance_correlation(4.0)
        ((0.34, 0.49), (0.29, 0.43))
    """
    seconds = math.log(min(max(duration_s, CHANCE[0][0]), CHANCE[-1][0]))
    after = next(i for i, (known, *_) in enumerate(CHANCE) if math.log(known) >= seconds - 1e-9)
    (low, *first), (high, *second) = CHANCE[max(0, after - 1)], CHANCE[after]
    share = (seconds - math.log(low)) / math.log(high / low) if high > low else 1.0
    mean, rare = (round(one + share * (two - one), 2) for one, two in zip(first, second, strict=True))
    return mean, rare


def chance_note() -> str:
    """Return what a reader of lags must know, in a sentence."""
    listed = [(seconds, *chance_correlation(seconds)) for seconds in (1.0, 1.3, 3.0, 5.0)]
    means = ", ".join(f"{mean:.2f} in {seconds:g} s" for seconds, mean, _ in listed)
    rare = ", ".join(f"{most:.2f}" for *_, most in listed)
    return (
        f"mouth and sound that have nothing to do with each other reach a correlation of {means} on average, and one "
        f"pair in twenty {rare}."
    )
