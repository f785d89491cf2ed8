"""Sound of the nano world: a source-filter voice and five environments, from scripts to waveforms.

The voiced source is a band-limited pulse train in closed form (a Dirichlet kernel of the running phase), the
breath is white noise; both pass a time-varying filter in the short-time Fourier domain: four resonances moved by
the vowel and the vocal tract, the speaker's tilt and notch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from idlora_pl.nano.world import N_SAMPLES, SAMPLE_RATE_HZ, VOWELS, Script, Speaker, loudness, word_indices

_N_FFT = 512
_HOP = 128
_BANDWIDTHS_HZ = (90.0, 120.0, 170.0, 250.0)
_UPPER_FORMANTS_HZ = (2800.0, 3900.0)
_VOICE_RMS = 0.08


def _column(values: Sequence[float]) -> Tensor:
    """Turn B numbers into a (B, 1) column."""
    return torch.tensor(values, dtype=torch.float32)[:, None]


def _pulse_train(speakers: Sequence[Speaker], scripts: Sequence[Script]) -> Tensor:
    """Return the voiced source (B, S): equal harmonics up to 7.8 kHz at the speaker's moving pitch."""
    times = torch.arange(N_SAMPLES) / SAMPLE_RATE_HZ
    draws = np.stack([np.random.default_rng([item.seed, 4]).uniform(-1, 1, 2) for item in scripts])
    drift, phase = torch.from_numpy(draws).float().unbind(1)
    vibrato = _column([item.vibrato_depth for item in speakers]) * torch.sin(
        2 * torch.pi * (_column([item.vibrato_hz for item in speakers]) * times + phase[:, None])
    )
    pitch = _column([item.pitch_hz for item in speakers])
    frequency = pitch * (1 + vibrato + 0.06 * drift[:, None] * (times / times[-1] - 0.5))
    angle = 2 * torch.pi * torch.cumsum(frequency.double() / SAMPLE_RATE_HZ, dim=1)
    n_harmonics = torch.floor(7800.0 / frequency.amax(1, keepdim=True)).double()
    half = torch.sin(angle / 2)
    near = half.abs() < 1e-6
    kernel = torch.sin((2 * n_harmonics + 1) * angle / 2) / torch.where(near, torch.ones_like(half), half)
    kernel = torch.where(near, 2 * n_harmonics + 1, kernel) - 1
    return (kernel / torch.sqrt(2 * n_harmonics)).float()


def _spectrum(signal: Tensor) -> Tensor:
    """Return the short-time Fourier transform (B, 257, T) of (B, S)."""
    return torch.stft(signal, _N_FFT, _HOP, window=torch.hann_window(_N_FFT), return_complex=True)


def _tract_filter(speakers: Sequence[Speaker], scripts: Sequence[Script], n_steps: int) -> Tensor:
    """Return the magnitude (B, 257, T) of the vocal tract, the glottal tilt and the notch."""
    times = torch.arange(n_steps) * (_HOP / SAMPLE_RATE_HZ)
    _, weights, _ = loudness(scripts, times)
    vowels = torch.tensor(list(VOWELS.values())).log()[word_indices(scripts)]
    lower = (weights[..., None] * vowels[:, None]).sum(2).exp()
    upper = torch.tensor(_UPPER_FORMANTS_HZ).expand(*lower.shape[:2], 2)
    scale = _column([item.tract_scale for item in speakers])
    formants = torch.cat([lower, upper], dim=-1) * scale[..., None]
    hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, _N_FFT // 2 + 1)
    response = torch.ones(len(speakers), n_steps, hz.numel())
    for index, bandwidth in enumerate(_BANDWIDTHS_HZ):
        ratio = hz / formants[..., index, None]
        damping = bandwidth * hz / formants[..., index, None] ** 2
        response = response * torch.rsqrt((1 - ratio**2) ** 2 + damping**2 + 1e-6)
    return response.transpose(1, 2) * _speaker_colour(speakers, hz)[..., None]


def _speaker_colour(speakers: Sequence[Speaker], hz: Tensor) -> Tensor:
    """Return the static magnitude (B, 257) of a speaker: high-frequency lift, tilt and notch."""
    octaves = torch.log2(hz.clamp(min=500.0) / 500.0)
    tilt = _column([item.tilt_db for item in speakers]) * octaves
    notch = _column([item.notch_hz for item in speakers])
    dip = -15.0 * torch.exp(-(((hz - notch) / (0.16 * notch)) ** 2))
    lift = 9.0 * octaves
    return 10 ** ((tilt + dip + lift) / 20) * (hz > 60)


def _environment(item: Script) -> Tensor:
    """Return the background (S,) of one script at its level relative to the voice."""
    rng = np.random.default_rng([item.seed, 5])
    noise = torch.from_numpy(rng.standard_normal(N_SAMPLES)).float()
    spectrum = torch.fft.rfft(noise)
    hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, spectrum.numel())
    times = torch.arange(N_SAMPLES) / SAMPLE_RATE_HZ
    level = 10 ** (rng.uniform(-3, 3) / 20)

    def shaped(gain: Tensor, rms: float) -> Tensor:
        sound = torch.fft.irfft(spectrum * gain, n=N_SAMPLES)
        return sound * (rms * level / sound.square().mean().sqrt())

    hush = shaped(torch.ones_like(hz), 0.0006 / level)
    if item.environment == "steady rain":
        return hush + shaped(torch.sigmoid((hz - 2500) / 500), 0.008)
    if item.environment == "howling wind":
        swell = 0.6 + 0.4 * torch.sin(2 * torch.pi * (rng.uniform(0.8, 1.6) * times + rng.uniform()))
        return hush + swell * shaped(torch.exp(-((torch.log2((hz + 1) / 420) / 0.8) ** 2)), 0.015)
    if item.environment == "engine hum":
        base, beat = rng.uniform(52, 64), rng.uniform(9, 13)
        tones = sum(torch.sin(2 * torch.pi * base * k * times + rng.uniform(0, 6.3)) / k**0.5 for k in range(1, 9))
        return hush + 0.012 * level * tones * (1 + 0.4 * torch.sin(2 * torch.pi * beat * times))
    if item.environment == "bird song":
        return hush + 0.05 * level * _chirps(rng, times)
    return hush


def _chirps(rng: np.random.Generator, times: Tensor) -> Tensor:
    """Return five falling whistles (S,) between 7 and 4.5 kHz at random moments."""
    sound = torch.zeros(N_SAMPLES)
    for start in np.linspace(0.0, 1.1, 5) + rng.uniform(0.0, 0.14, 5):
        local = (times - start) / 0.11
        window = torch.where((local > 0) & (local < 1), torch.sin(torch.pi * local.clamp(0, 1)) ** 2, 0.0)
        top = rng.uniform(6000, 7000)
        sound = sound + window * torch.sin(2 * torch.pi * (top * local - 800 * local**2) * 0.11)
    return sound


def speak(speakers: Sequence[Speaker], scripts: Sequence[Script]) -> Tensor:
    """Render the sound of B clips.

    Args:
        speakers: B speakers.
        scripts: B scripts; all noise is a function of the script's seed.

    Returns:
        Waveforms (B, 21120) float32 in [-1, 1] at 16 kHz.
    """
    draws = [np.random.default_rng([item.seed, 6]).standard_normal(N_SAMPLES) for item in scripts]
    breath = torch.from_numpy(np.stack(draws)).float()
    gain = 10 ** (_column([item.breath_db for item in speakers]) / 20)
    source = _spectrum(_pulse_train(speakers, scripts))
    hiss = _spectrum(breath) * gain[..., None]
    voiced = (source + hiss) * _tract_filter(speakers, scripts, source.shape[-1])
    sound = torch.istft(voiced, _N_FFT, _HOP, window=torch.hann_window(_N_FFT), length=N_SAMPLES)
    sound = sound / sound.square().mean(1, keepdim=True).sqrt()
    level, _, _ = loudness(scripts, torch.arange(N_SAMPLES // 40) * (40 / SAMPLE_RATE_HZ))
    level = torch.nn.functional.interpolate(level[:, None], size=N_SAMPLES, mode="linear")[:, 0]
    mixed = _VOICE_RMS * 1.3 * level * sound + torch.stack([_environment(item) for item in scripts])
    return mixed.clamp(-1.0, 1.0)
