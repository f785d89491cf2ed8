"""How loud a recording is and how far speech stands above what is heard between the words.

Letters: C channels, S samples, N frames of 32 ms.
"""

import numpy as np

FRAME_S = 0.032
QUIET_SHARE = 0.1
"""The quietest tenth of a recording is taken for its noise: speech has pauses, and sounds that end."""
_FLOOR = 1e-12


def _framed(waveform: np.ndarray, rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Return frames (N, C, frame) and their indices from the quietest to the loudest."""
    size = max(1, round(FRAME_S * rate_hz))
    count = waveform.shape[1] // size
    frames = waveform[:, : count * size].reshape(len(waveform), count, size).swapaxes(0, 1)
    return frames, np.argsort(np.square(frames, dtype=np.float64).mean((1, 2)), kind="stable")


def quiet_part(waveform: np.ndarray, rate_hz: int) -> np.ndarray:
    """Return the quietest frames of a recording (C, S) one after the other, at least four of them: (C, samples)."""
    frames, order = _framed(waveform, rate_hz)
    chosen = np.sort(order[: max(4, int(QUIET_SHARE * len(order)))])
    return frames[chosen].swapaxes(0, 1).reshape(len(waveform), -1)


def level_dbfs(waveform: np.ndarray) -> float:
    """Return the level of a recording (C, S) in [-1, 1]: dB of its root mean square below full scale.

    Example:
        >>> round(level_dbfs(np.full((1, 100), 0.1)), 3)
        -20.0
    """
    return 10 * float(np.log10(max(np.square(waveform, dtype=np.float64).mean(), _FLOOR)))


def snr_db(waveform: np.ndarray, rate_hz: int) -> float:
    """Estimate the ratio of speech to noise of a recording (C, S) in dB, between -20 and 100.

    Noise is the mean power of the quietest tenth of the frames, speech the mean power of all less that. Speech
    without any pause is taken for noise in part, so the estimate is then too low.
    """
    frames, order = _framed(waveform, rate_hz)
    power = np.square(frames, dtype=np.float64).mean((1, 2))
    noise = power[order[: max(1, int(QUIET_SHARE * len(order)))]].mean()
    speech = max(power.mean() - noise, _FLOOR)
    return float(np.clip(10 * np.log10(speech / max(noise, _FLOOR)), -20.0, 100.0))
