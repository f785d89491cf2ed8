"""Cepstra as python_speech_features 0.6 computes them, which SyncNet and LR-ASD were trained on.

That library is not used itself: its last release is of 2017 and it needs SciPy. Letters: S samples, A steps of 10 ms.
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torchaudio.functional import resample

SAMPLE_RATE_HZ = 16_000
WINDOW, HOP, N_FFT = 400, 160, 512
N_FILTERS, N_CEPSTRA, LIFTER = 26, 13, 22
PRE_EMPHASIS = 0.97
_TINY = torch.finfo(torch.float64).eps


def as_16_bit(waveform: Tensor, sample_rate_hz: int) -> Tensor:
    """Return a mono waveform (S,) in [-1, 1] at 16 kHz in the whole numbers of a 16-bit file, as float64.

    The cepstra depend on the scale: the first of them is the log energy.
    """
    sound = resample(waveform.float(), sample_rate_hz, SAMPLE_RATE_HZ)
    return (sound.double() * 32768).round().clamp(-32768, 32767)


def mfcc(samples: Tensor) -> Tensor:
    """Return cepstra (A, 13) of samples (S,) at 16 kHz, float64, A = 1 + ceil((S - 400) / 160).

    Pre-emphasis 0.97, rectangular windows of 25 ms every 10 ms, power spectrum of 512 points, 26 triangular mel filters
    on whole bins, log, orthonormal cosine transform, lifter 22; the first coefficient is the log of the frame's energy.
    """
    emphasised = samples.double().clone()
    emphasised[1:] -= PRE_EMPHASIS * samples.double()[:-1]
    n_steps = 1 + max(0, math.ceil((len(samples) - WINDOW) / HOP))
    padded = F.pad(emphasised, (0, max(0, (n_steps - 1) * HOP + WINDOW - len(samples))))
    power = torch.fft.rfft(padded.unfold(0, WINDOW, HOP), N_FFT).abs().square() / N_FFT
    energies = _floored(power @ _mel_filters().to(power.device).T).log()
    cepstra = energies @ _cosines().to(power.device).T
    cepstra[:, 0] = _floored(power.sum(1)).log()
    return cepstra


def _floored(energy: Tensor) -> Tensor:
    """Put the smallest step of float64 where there is no energy, so that the logarithm is finite."""
    return torch.where(energy == 0, torch.full_like(energy, _TINY), energy)


@cache
def _mel_filters() -> Tensor:
    """Return triangles (26, 257) between whole bins of the spectrum, even in mel from 0 to 8 kHz."""
    top = 2595 * math.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
    mels = torch.linspace(0, top, N_FILTERS + 2, dtype=torch.float64)
    edges = ((N_FFT + 1) * 700 * (10 ** (mels / 2595) - 1) / SAMPLE_RATE_HZ).floor()
    bins = torch.arange(N_FFT // 2 + 1, dtype=torch.float64)
    low, middle, high = (edges[i : i + N_FILTERS, None] for i in range(3))
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    inside = (bins >= low) & (bins < high)
    return torch.where(inside, torch.where(bins < middle, rising, falling), torch.zeros(()).double())


@cache
def _cosines() -> Tensor:
    """Return the rows (13, 26) of the orthonormal cosine transform, scaled by the lifter."""
    order = torch.arange(N_CEPSTRA, dtype=torch.float64)[:, None]
    rows = torch.cos(math.pi * order * (torch.arange(N_FILTERS) + 0.5) / N_FILTERS) * math.sqrt(2 / N_FILTERS)
    rows[0] /= math.sqrt(2)
    return rows * (1 + LIFTER / 2 * torch.sin(math.pi * order / LIFTER))
