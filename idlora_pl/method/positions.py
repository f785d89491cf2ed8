"""Where tokens sit: position grids in seconds and pixels, and the place of the voice reference.

Letters: B batch, N tokens, R reference tokens. Positions are intervals [start, end), float32 unless a recipe rounds
them (`Precision`).
The order of the float32 operations is part of the method: the closed forms differ from the authors' numbers
by up to 7e-7 s, which the highest rotary frequency turns into 1e-3 rad.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Placement = Literal["negative", "shared", "zero", "after"]

Precision = Literal["float32", "bfloat16", "mixed"]
"""In what positions are computed: "float32" everywhere; "bfloat16" everywhere, as the authors' trainer does; "mixed" as
their inference scripts do: video and reference in bfloat16, target audio in float32 (spec 2.2)."""


@dataclass(frozen=True)
class VideoGrid:
    """Positions of video tokens.

    Latent frame k covers frames max(0, stride * k - (stride - 1)) .. stride * k + 1: the first one is causal.

    Attributes:
        frame_rate_fps: frames per second of the clip.
        temporal_stride: frames per latent frame.
        spatial_stride: pixels per latent row or column.

    Example:
        >>> VideoGrid(frame_rate_fps=25.0).positions(2, 1, 1)[0, 0].tolist()
        [[0.0, 0.03999999910593033], [0.03999999910593033, 0.36000001430511475]]
    """

    frame_rate_fps: float = 25.0
    temporal_stride: int = 8
    spatial_stride: int = 32

    def positions(self, latent_frames: int, height: int, width: int) -> Tensor:
        """Intervals (1, 3, N, 2) of a latent grid in seconds, pixel rows, pixel columns; N = F * H * W."""
        axes = [torch.arange(n, dtype=torch.float32) for n in (latent_frames, height, width)]
        start = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
        strides = torch.tensor([self.temporal_stride, self.spatial_stride, self.spatial_stride])
        intervals = torch.stack([start, start + 1], dim=-1) * strides[:, None, None]
        frames = (intervals[0] + 1 - self.temporal_stride).clamp(min=0)
        intervals[0] = frames / self.frame_rate_fps
        return intervals[None]


@dataclass(frozen=True)
class AudioGrid:
    """Positions of audio tokens; the first token is causal and shorter than the others.

    Attributes:
        sample_rate_hz: sample rate that the spectrogram is computed at.
        hop_length: samples between two spectrogram columns.
        temporal_stride: spectrogram columns per token.

    Example:
        >>> AudioGrid().token_seconds, AudioGrid().n_tokens(1.32)
        (0.04, 33)
    """

    sample_rate_hz: int = 16000
    hop_length: int = 160
    temporal_stride: int = 4

    @property
    def token_seconds(self) -> float:
        """Duration of one token in seconds."""
        return self.temporal_stride * self.hop_length / self.sample_rate_hz

    def n_tokens(self, duration_s: float) -> int:
        """Number of tokens of a sound of that many seconds."""
        return round(duration_s / self.token_seconds)

    def positions(self, n_tokens: int) -> Tensor:
        """Intervals (1, 1, N, 2) of N tokens in seconds, the first one starting at 0."""
        first = torch.arange(n_tokens, dtype=torch.float32)
        return torch.stack([self._seconds(first), self._seconds(first + 1)], dim=-1)[None, None]

    def _seconds(self, token: Tensor) -> Tensor:
        column = (token * self.temporal_stride + 1 - self.temporal_stride).clip(min=0)
        return column * self.hop_length / self.sample_rate_hz


@dataclass(frozen=True)
class Geometry:
    """The position grids of both modalities of one model."""

    video: VideoGrid = VideoGrid()
    audio: AudioGrid = AudioGrid()


def place_reference(positions: Tensor, placement: Placement, token_seconds: float, target_end_s: float) -> Tensor:
    """Move a voice reference on the time axis (ID-LoRA, negative temporal positions, Eq. ?).

    Args:
        positions: (B, 1, R, 2) seconds, starting at 0 like those of a target; their dtype is that of the arithmetic.
        placement: "negative" puts the block before 0; the paper says t in [-T, 0), its code leaves one token
            between the block and 0 (the last interval ends at -0.04 s) and so does this. "shared" keeps it on
            top of the target, "zero" gives every token the interval [0, token_seconds), "after" starts it one
            token behind the end of the target.
        token_seconds: duration of one token.
        target_end_s: end of the last target token, used by "after".

    Returns:
        (B, 1, R, 2) seconds in the dtype of positions; inner spacing is kept (to rounding) except by "zero".
    """
    if placement == "negative":
        return positions - positions[:, :, -1:, 1:] - token_seconds
    if placement == "shared":
        return positions
    if placement == "zero":
        return positions.new_tensor([0.0, token_seconds]).expand_as(positions)
    if placement == "after":
        return positions - positions[:, :, :1, :1] + (target_end_s + token_seconds)
    raise ValueError(f"placement must be one of negative, shared, zero, after; got {placement!r}")
