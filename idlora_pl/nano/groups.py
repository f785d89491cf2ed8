"""What one latent step of the nano world holds: four frames of a patch, or four steps of log-mel.

Groups are causal as in LTX-2: step 0 holds the first frame alone, every later step the next four. Sound is log-mel,
as LTX-2's audio VAE sees it.

Letters: B clips, F frames, S samples, T latent steps.
"""

from __future__ import annotations

import functools

import torch
import torchaudio
from torch import Tensor

from idlora_pl.nano.world import SAMPLE_RATE_HZ

STRIDE = 4
PATCH = 32
HOP = 160
N_FFT = 1024
N_MELS = 64
_FLOOR = 1e-5


def group_frames(frames: Tensor) -> Tensor:
    """Group (B, 1 + 4 n, ...) causally into (B, 1 + n, 4, ...); the first frame fills its group alone."""
    first = frames[:, :1, None].expand(-1, -1, STRIDE, *frames.shape[2:])
    return torch.cat([first, frames[:, 1:].unflatten(1, (-1, STRIDE))], dim=1)


def ungroup_frames(groups: Tensor) -> Tensor:
    """Undo `group_frames`: (B, 1 + n, 4, ...) to (B, 1 + 4 n, ...), the first group averaged to one frame."""
    return torch.cat([groups[:, :1].mean(2), groups[:, 1:].flatten(1, 2)], dim=1)


def video_groups(frames: Tensor) -> Tensor:
    """Cut uint8 frames (B, F, 3, 64, 64) into patches (B, T, 2, 2, 4*3*32*32) in [-1, 1]."""
    pixels = group_frames(frames.float() / 127.5 - 1)
    patches = pixels.unflatten(-1, (-1, PATCH)).unflatten(-3, (-1, PATCH))
    return patches.permute(0, 1, 4, 6, 2, 3, 5, 7).flatten(4)


def frames_from_groups(groups: Tensor) -> Tensor:
    """Undo `video_groups`, rounding to uint8 frames (B, F, 3, H, W)."""
    patches = groups.unflatten(-1, (STRIDE, 3, PATCH, PATCH)).permute(0, 1, 4, 5, 2, 6, 3, 7)
    pixels = ungroup_frames(patches.flatten(-2).flatten(-3, -2))
    return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def audio_groups(waveform: Tensor, sample_rate_hz: int) -> Tensor:
    """Turn a waveform (B, channels, S) into groups of log-mel (B, T, 4*64); channels are averaged.

    Raises:
        ValueError: If there are fewer samples than one analysis window.
    """
    if waveform.shape[-1] < N_FFT:
        raise ValueError(
            f"waveform has {waveform.shape[-1]} samples; nano needs at least {N_FFT} (0.064 s): use a longer clip"
        )
    mono = torchaudio.functional.resample(waveform.mean(1), sample_rate_hz, SAMPLE_RATE_HZ)
    mel = log_mel_transform()(mono).clamp(min=_FLOOR).log().transpose(1, 2)
    return group_frames(mel[:, : (mel.shape[1] - 1) // STRIDE * STRIDE + 1]).flatten(2)


@functools.cache
def log_mel_transform() -> torchaudio.transforms.MelSpectrogram:
    """Return the magnitude mel transform of LTX-2's audio front end: 16 kHz, window 1024, hop 160, 64 slaney mels."""
    return torchaudio.transforms.MelSpectrogram(
        SAMPLE_RATE_HZ, N_FFT, N_FFT, HOP, 0.0, 8000.0, n_mels=N_MELS, power=1.0, norm="slaney", mel_scale="slaney"
    )
