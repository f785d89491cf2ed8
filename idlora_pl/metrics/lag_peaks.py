"""Where two curves at 100 Hz correlate most, over a whole clip and in windows of it.

Letters: T steps of 10 ms.
"""

import math

import torch
from torch import Tensor

from idlora_pl.curve import AT_EDGE, BY_CHANCE
from idlora_pl.metrics.scorable import Unscorable

STEPS_PER_FRAME = 4
"""Lags are in frames of 0.04 s whatever the frame rate, as SyncNet's offset is."""
STEPS_PER_SECOND = 100
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
STILL = 1e-3
"""Least standard deviation of the mouth's opening, in distances between the irises, and of the level in dB."""


def lag_correlations(mouth: Tensor, level: Tensor, max_lag: int) -> Tensor:
    """Correlate curves (T,) at every lag of 10 ms; the middle entry is lag zero, later ones have the sound ahead.

    Raises:
        Unscorable: `mouth_still` or `sound_steady` where a curve does not move.
    """
    if mouth.std() < STILL:
        raise Unscorable("mouth_still")
    if level.std() < STILL:
        raise Unscorable("sound_steady")
    reach, steps = max_lag * STEPS_PER_FRAME, len(mouth)
    # the mouth belongs to the level `ahead` steps before it; each lag has a row, of the steps that both have
    heard = torch.arange(steps) - torch.arange(-reach, reach + 1)[:, None]
    both = (heard >= 0) & (heard < steps)
    seen = _unit_rows(mouth.expand_as(heard), both)
    return (seen * _unit_rows(level[heard.clamp(0, steps - 1)], both)).sum(1).clamp(-1, 1)


def peak_of(correlations: Tensor) -> tuple[float, float]:
    """Return by how many frames of 0.04 s the sound is ahead where it correlates most, and the correlation there.

    The place is refined with a parabola through the highest entry and its neighbours.

    Example:
        >>> peak_of(torch.tensor([0.0, 0.1, 0.2, 0.6, 0.2]))
        (0.25, 0.6000000238418579)
    """
    best, shift = int(correlations.argmax()), 0.0
    if 0 < best < len(correlations) - 1:
        before, here, after = correlations[best - 1 : best + 2].tolist()
        bend = before - 2 * here + after
        shift = 0.5 * (before - after) / bend if bend else 0.0
    return (best - len(correlations) // 2 + shift) / STEPS_PER_FRAME, correlations[best].item()


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


def doubts_of(correlations: Tensor, duration_s: float) -> list[str]:
    """Return why the highest of correlations (see `lag_correlations`) may be no lag, in the words of `DOUBTS`."""
    best = int(correlations.argmax())
    said = [AT_EDGE] if best in (0, len(correlations) - 1) else []
    if round(correlations[best].item(), 3) <= chance_correlation(duration_s)[0]:
        said.append(f"{BY_CHANCE} ({chance_correlation(duration_s)[0]:.2f} in {duration_s:.1f} s)")
    return said


def windowed_peaks(
    mouth: Tensor, level: Tensor, max_lag: int, window: int, hop: int
) -> list[tuple[float | None, float | None, bool]]:
    """Return lag and correlation (see `peak_of`) in windows of mouth and level (T,); a shorter clip is one window.

    The third entry says whether the lag may be none (see `doubts_of`). Lag and correlation are None where a curve does
    not move.
    """
    found: list[tuple[float | None, float | None, bool]] = []
    for start in range(0, max(1, len(mouth) - window + 1), hop):
        inside = slice(start, start + window)
        try:
            correlations = lag_correlations(mouth[inside], level[inside], max_lag)
        except Unscorable:
            found.append((None, None, False))
        else:
            duration_s = len(mouth[inside]) / STEPS_PER_SECOND
            found.append((*peak_of(correlations), bool(doubts_of(correlations, duration_s))))
    return found


def _unit_rows(curves: Tensor, kept: Tensor) -> Tensor:
    """Take each row's own mean from what is kept of it and divide by its length; what is not kept is 0."""
    apart = curves - (curves * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True)
    return torch.nn.functional.normalize(apart * kept, dim=1, eps=0.0)
