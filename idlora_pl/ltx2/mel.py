"""The log-mel front end of LTX-2's audio VAE, always in float32.

Letters: B clips, S samples, T mel frames, M mel bands.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torchaudio
from torch import Tensor

FLOOR = 1e-5


@dataclass(frozen=True)
class LogMel:
    """Waveform to log-mel magnitudes: slaney scale and norm, periodic Hann window, centred, reflect padding.

    Attributes:
        sample_rate_hz: Rate at which the spectrum is taken; other rates are resampled first.
        hop_length: Samples between two frames.
        n_mels: Number of mel bands between 0 Hz and half the rate.
        n_fft: Length of the window in samples.

    Example:
        >>> LogMel()(torch.zeros(1, 2, 16000), 16000).shape
        torch.Size([1, 2, 101, 64])
    """

    sample_rate_hz: int = 16000
    hop_length: int = 160
    n_mels: int = 64
    n_fft: int = 1024

    def __call__(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
        """Return the log-mel (B, channels, T, M) of a waveform (B, channels, S) in [-1, 1].

        T = 1 + S // hop, with S counted after resampling. Magnitudes are at least 1e-5, so silence is finite.

        Raises:
            ValueError: If the waveform is not (B, channels, S) of floats, or shorter than half a window.
        """
        if waveform.ndim != 3 or not waveform.is_floating_point():
            raise ValueError(
                f"waveform must be float (B, channels, S) in [-1, 1]; got {waveform.dtype} {tuple(waveform.shape)}"
            )
        audio = waveform.float()
        if sample_rate_hz != self.sample_rate_hz and audio.shape[-1]:
            audio = torchaudio.functional.resample(audio, sample_rate_hz, self.sample_rate_hz)
        needed = self.n_fft // 2 + 1
        if audio.shape[-1] < needed:
            raise ValueError(
                f"waveform has {waveform.shape[-1]} samples at {sample_rate_hz} Hz; the mel window needs at "
                f"least {needed / self.sample_rate_hz:.3f} s: use a longer clip with a sound track"
            )
        with torch.autocast(audio.device.type, enabled=False):
            return self.transform(audio.device)(audio).clamp(min=FLOOR).log().transpose(-1, -2)

    def transform(self, device: torch.device) -> torchaudio.transforms.MelSpectrogram:
        """Build the transform to mel magnitudes on `device`; not a buffer, so that a bf16 copy cannot round it."""
        return torchaudio.transforms.MelSpectrogram(
            sample_rate=self.sample_rate_hz,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            f_min=0.0,
            f_max=self.sample_rate_hz / 2,
            n_mels=self.n_mels,
            power=1.0,
            norm="slaney",
            mel_scale="slaney",
        ).to(device)
