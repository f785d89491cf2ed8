"""A talking clip in memory: pixels and the sound that belongs to them.

Letters: F frames, H W pixels, S audio samples.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


class MediaError(ValueError):
    """A media file cannot be used; the message names the file and the fix."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames and sound that start at the same moment.

    Attributes:
        frames: uint8 (F, 3, H, W) RGB.
        waveform: float32 (channels, S) in [-1, 1].
        frame_rate_fps: frames per second.
        sample_rate_hz: audio samples per second.

    Raises:
        ValueError: when a tensor has the wrong type or shape, or a rate is not positive.

    Example:
        >>> clip = Clip(torch.zeros(25, 3, 64, 64, dtype=torch.uint8), torch.zeros(1, 16000), 25.0, 16000)
        >>> clip.duration_s
        1.0
    """

    frames: Tensor
    waveform: Tensor
    frame_rate_fps: float
    sample_rate_hz: int

    def __post_init__(self) -> None:
        """Refuse tensors that are not a clip."""
        if self.frames.dtype != torch.uint8 or self.frames.ndim != 4 or self.frames.shape[1] != 3:
            raise ValueError(
                f"frames must be uint8 (F, 3, H, W); got {self.frames.dtype} {tuple(self.frames.shape)}; "
                "scale to 0..255, convert with .to(torch.uint8) and put the colours second"
            )
        if self.waveform.dtype != torch.float32 or self.waveform.ndim != 2:
            raise ValueError(
                f"waveform must be float32 (channels, S); got {self.waveform.dtype} "
                f"{tuple(self.waveform.shape)}; convert with .float() and add the channel axis with [None]"
            )
        if not (self.frame_rate_fps > 0 and self.sample_rate_hz > 0):
            raise ValueError(
                f"frame_rate_fps and sample_rate_hz must be positive; got {self.frame_rate_fps} and "
                f"{self.sample_rate_hz}"
            )

    @property
    def duration_s(self) -> float:
        """Length of the picture in seconds."""
        return self.frames.shape[0] / self.frame_rate_fps

    def to(self, device: torch.device | str) -> "Clip":
        """The same clip on another device; Lightning asks for it when it collects predictions."""
        return replace(self, frames=self.frames.to(device), waveform=self.waveform.to(device))
