"""Where two curves at 100 Hz correlate most, over a whole clip and in windows of it.

Letters: T steps of 10 ms.
"""

import torch
from torch import Tensor

from idlora_pl.metrics.scorable import Unscorable

STEPS_PER_FRAME = 4
"""Lags are in frames of 0.04 s whatever the frame rate, as SyncNet's offset is."""
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
    reach = max_lag * STEPS_PER_FRAME
    return torch.stack([_correlation(mouth, level, ahead) for ahead in range(-reach, reach + 1)])


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


def windowed_peaks(
    mouth: Tensor, level: Tensor, max_lag: int, window: int, hop: int
) -> list[tuple[float | None, float | None]]:
    """Return lag and correlation (see `peak_of`) in windows of mouth and level (T,); a shorter clip is one window.

    Both are None where a curve does not move, and where the correlation is highest at the largest lag: that is no peak.
    """
    found: list[tuple[float | None, float | None]] = []
    for start in range(0, max(1, len(mouth) - window + 1), hop):
        inside = slice(start, start + window)
        try:
            correlations = lag_correlations(mouth[inside], level[inside], max_lag)
        except Unscorable:
            found.append((None, None))
        else:
            is_peak = 0 < int(correlations.argmax()) < len(correlations) - 1
            found.append(peak_of(correlations) if is_peak else (None, None))
    return found


def _correlation(mouth: Tensor, level: Tensor, ahead: int) -> Tensor:
    """Correlate the mouth with the level `ahead` steps before it, over the steps that both have."""
    steps = len(mouth)
    first = mouth[max(0, ahead) : steps - max(0, -ahead)]
    second = level[max(0, -ahead) : steps - max(0, ahead)]
    return torch.corrcoef(torch.stack([first, second]))[0, 1]
