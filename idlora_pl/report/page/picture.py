"""A picture of a sound: its waveform, and under it its log-mel spectrogram.

Letters: S samples, W columns of pixels, M mel bands.
"""

import functools

import matplotlib
import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import resample
from torchaudio.transforms import MelSpectrogram

RATE_HZ = 16000
PIXELS_PER_SECOND = 120
WAVE_HEIGHT, N_MELS, TICK_HEIGHT = 44, 80, 8
LOW_HZ, HIGH_HZ = 50.0, 8000.0
QUIET_DB, LOUD_DB = -85.0, -5.0
_MAX_WIDTH = 2400
_WINDOW = 640
_INK, _PAPER, _LINE = (90, 150, 230), (16, 16, 24), (150, 150, 160)


def sound_picture(waveform: Tensor, rate_hz: int) -> np.ndarray:
    """Draw a sound, with the same scales for every sound so that pictures can be compared.

    Args:
        waveform: (channels, S) in [-1, 1], S > 0; channels are averaged.
        rate_hz: Samples per second.

    Returns:
        uint8 (132, W, 3): the waveform (square root of the amplitude, so that quiet speech shows), 80 mel bands from
        50 Hz to 8 kHz (the highest on top) from -85 dB to -5 dB, and a strip with a tick each half second, long ones
        at whole seconds.

    Example:
        >>> sound_picture(torch.zeros(1, 32000), 16000).shape
        (132, 240, 3)
    """
    mono = waveform.nan_to_num(0.0, 0.0, 0.0).clamp(-1.0, 1.0).mean(0)
    if rate_hz != RATE_HZ:
        mono = resample(mono, rate_hz, RATE_HZ)
    duration_s = len(mono) / RATE_HZ
    width = min(_MAX_WIDTH, max(1, round(duration_s * PIXELS_PER_SECOND)))
    return np.concatenate([_wave(mono, width), _mel(mono, width), _ticks(duration_s, width)])


def _wave(mono: Tensor, width: int) -> np.ndarray:
    """Draw from the lowest to the highest sample of each column."""
    edges = np.linspace(0, len(mono), width + 1).astype(int)
    samples = mono.numpy()
    starts = np.minimum(edges[:-1], len(samples) - 1)
    low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    low, high = (np.sign(end) * np.abs(end) ** 0.5 for end in (low, high))
    middle = (WAVE_HEIGHT - 1) / 2
    row = np.arange(WAVE_HEIGHT)[:, None]
    drawn = (row >= np.floor(middle - high * middle)) & (row <= np.ceil(middle - low * middle))
    picture = np.full((WAVE_HEIGHT, width, 3), _PAPER, np.uint8)
    picture[drawn] = _INK
    return picture


@functools.cache
def _mels(hop: int) -> MelSpectrogram:
    # "window" divides by the window's energy, so that the level does not depend on its length
    return MelSpectrogram(
        RATE_HZ, 1024, win_length=_WINDOW, hop_length=hop, f_min=LOW_HZ, f_max=HIGH_HZ, n_mels=N_MELS,
        normalized="window",
    )  # fmt: skip


def _mel(mono: Tensor, width: int) -> np.ndarray:
    padded = torch.nn.functional.pad(mono, (0, max(0, 1024 - len(mono))))
    energy = _mels(max(1, len(mono) // width))(padded)
    columns = torch.linspace(0, (len(mono) - 1) / max(1, len(mono) // width), width).round().long()
    level_db = 10 * torch.log10(energy[:, columns.clamp(max=energy.shape[1] - 1)] + 1e-12)
    shade = ((level_db - QUIET_DB) / (LOUD_DB - QUIET_DB)).clamp(0, 1).flip(0)
    return _colours()[(shade * 63).round().long().numpy()]


@functools.cache
def _colours() -> np.ndarray:
    """Return 64 colours: few enough that a PNG stays small."""
    found = matplotlib.colormaps["magma"](np.linspace(0, 1, 64))[:, :3]
    return np.asarray((found * 255).round(), np.uint8)


def _ticks(duration_s: float, width: int) -> np.ndarray:
    strip = np.full((TICK_HEIGHT, width, 3), _PAPER, np.uint8)
    for half in range(1, int(duration_s * 2) + 1):
        at = min(width - 1, round(half / 2 / duration_s * width))
        strip[: TICK_HEIGHT if half % 2 == 0 else TICK_HEIGHT // 2, at] = (230, 230, 230) if half % 2 == 0 else _LINE
    return strip
