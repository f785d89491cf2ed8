"""What can be scored: every clip that cannot is named by a reason code, never skipped and never a crash."""

import torch
from torch import Tensor

from idlora_pl.media.sound import is_silent

MIN_AUDIO_S = 0.2


class Unscorable(ValueError):
    """A clip has no score, for a reason that belongs in its row.

    Metrics and embedders raise it; ``clip_mean.scored`` turns it into a row with ``null`` and the code.

    Args:
        reason: A code in snake case, such as ``silent``, ``too_short``, ``no_frames``, ``not_finite``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def check_waveform(waveform: Tensor, sample_rate_hz: int, *, role: str = "") -> Tensor:
    """Return a mono waveform that can be scored, as float32.

    Args:
        waveform: (S,) samples in [-1, 1].
        sample_rate_hz: Samples per second.
        role: Prefix of the reason codes; ``reference`` gives ``reference_silent`` and so on.

    Raises:
        ValueError: The shape or the rate is not one of a mono waveform.
        Unscorable: ``no_audio`` (zero samples), ``not_finite``, ``too_short`` (below 0.2 s) or ``silent``.
    """
    if waveform.ndim != 1:
        raise ValueError(f"waveform must be (S,) mono samples; got shape {tuple(waveform.shape)}")
    if sample_rate_hz <= 0:
        raise ValueError(f"sample_rate_hz must be positive; got {sample_rate_hz}")
    prefix = f"{role}_" if role else ""
    if waveform.numel() == 0:
        raise Unscorable(f"{prefix}no_audio")
    if not torch.isfinite(waveform).all():
        raise Unscorable(f"{prefix}not_finite")
    if waveform.numel() < MIN_AUDIO_S * sample_rate_hz:
        raise Unscorable(f"{prefix}too_short")
    waveform = waveform.float()
    if is_silent(waveform):
        raise Unscorable(f"{prefix}silent")
    return waveform


def check_frames(frames: Tensor, frame_rate_fps: float) -> Tensor:
    """Return frames that can be scored.

    Args:
        frames: (F, 3, H, W) uint8.
        frame_rate_fps: Frames per second.

    Raises:
        ValueError: The type, the shape or the rate is not one of a clip.
        Unscorable: ``no_frames`` when there are none, or none with pixels.
    """
    if frames.ndim != 4 or frames.shape[1] != 3 or frames.dtype != torch.uint8:
        raise ValueError(f"frames must be uint8 (F, 3, H, W); got {frames.dtype} {tuple(frames.shape)}")
    if frame_rate_fps <= 0:
        raise ValueError(f"frame_rate_fps must be positive; got {frame_rate_fps}")
    if frames.numel() == 0:
        raise Unscorable("no_frames")
    return frames


def check_embedding(embedding: Tensor) -> Tensor:
    """Return an embedding in float32; one with NaN or infinity is ``embedding_not_finite``."""
    if not torch.isfinite(embedding).all():
        raise Unscorable("embedding_not_finite")
    return embedding.float()
