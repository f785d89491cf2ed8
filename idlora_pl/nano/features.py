"""What the instruments of the nano world look at: log-mels, mouths, and the layers that read them.

Letters: B clips, S samples, T steps of 10 ms, C channels, F frames.
"""

import copy

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.nano.codecs import log_mel_transform
from idlora_pl.nano.world import FRAME_RATE_FPS, FRAME_SIZE, SAMPLE_RATE_HZ

N_MELS = 64
MOUTH = (slice(34, 62), slice(16, 48))
"""Rows and columns of the lower face in a 64x64 frame."""


class LogMel(nn.Module):
    """Turns a waveform of any rate and level into the log-mel that the instruments read."""

    def __init__(self) -> None:
        super().__init__()
        # of its own: the other is the codec's, which stays where it is when this one moves
        self.mel = copy.deepcopy(log_mel_transform())

    def forward(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
        """Map waveforms (B, S) in [-1, 1] on any device to (B, 64, T), zero-mean per clip, so that the gain cancels.

        Raises:
            Unscorable: ``too_short`` for less than 0.1 s.
        """
        waveform = waveform.to(self.mel.mel_scale.fb.device)
        waveform = torchaudio.functional.resample(waveform.float(), sample_rate_hz, SAMPLE_RATE_HZ)
        if waveform.shape[-1] < 0.1 * SAMPLE_RATE_HZ:
            raise Unscorable("too_short")
        peak = waveform.abs().amax(-1, keepdim=True).clamp(min=1e-6)
        log_mel = self.mel(0.5 * waveform / peak).clamp(min=1e-5).log()
        return (log_mel - log_mel.mean((1, 2), keepdim=True)) / 2


def mouths_25fps(frames: Tensor, frame_rate_fps: float) -> Tensor:
    """Cut the lower face out of frames of a centred face.

    Args:
        frames: (F', 3, H, W) uint8.
        frame_rate_fps: Frames per second; other rates than 25 take the nearest frame.

    Returns:
        (F, 3, 28, 32) uint8 at 25 fps.
    """
    n_frames = int(len(frames) * FRAME_RATE_FPS / frame_rate_fps + 1e-6)
    nearest = (torch.arange(n_frames) * frame_rate_fps / FRAME_RATE_FPS).round().long()
    pictures = frames[nearest.clamp(max=len(frames) - 1).to(frames.device)]
    if n_frames and pictures.shape[-2:] != (FRAME_SIZE, FRAME_SIZE):
        small = F.interpolate(pictures.float(), (FRAME_SIZE, FRAME_SIZE), mode="bilinear", antialias=True)
        pictures = small.round().clamp(0, 255).to(torch.uint8)
    return pictures[..., MOUTH[0], MOUTH[1]]


def time_layer(n_in: int, n_out: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Return a same-padded convolution over time with batch norm and ReLU."""
    padding = dilation * (kernel - 1) // 2
    return nn.Sequential(
        nn.Conv1d(n_in, n_out, kernel, stride=stride, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm1d(n_out),
        nn.ReLU(),
    )


def pooled_statistics(steps: Tensor, weights: Tensor) -> Tensor:
    """Pool (B, C, T) over time to weighted mean and standard deviation (B, 2 C); weights sum to 1 over T."""
    mean = (steps * weights).sum(-1)
    variance = ((steps - mean[..., None]).square() * weights).sum(-1)
    return torch.cat([mean, variance.clamp(min=1e-6).sqrt()], dim=-1)


def picture_layer(n_in: int, n_out: int, *, stride: int = 2) -> nn.Sequential:
    """Return a convolution over a picture with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()
    )
