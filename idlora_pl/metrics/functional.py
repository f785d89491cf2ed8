"""The arithmetic of the metrics: tensors in, numbers out, no networks and no state."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.text import word_error_rate

from idlora_pl.results.row import AT_EDGE


def cosine_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine between matching rows of two embeddings (B, D), as (B,) float32 in [-1, 1].

    Example:
        >>> cosine_similarity(torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]]))
        tensor([0.9600])
    """
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"embeddings must both be (B, D); got {tuple(a.shape)} and {tuple(b.shape)}")
    return F.cosine_similarity(a.float(), b.float(), dim=-1).clamp(-1, 1)


@dataclass(frozen=True)
class LipSyncScores:
    """How well mouth and sound agree in one clip.

    Attributes:
        lip_sync: Mean cosine at offset zero, in [-1, 1]; higher is better.
        lse_d: Smallest mean distance over the offsets (SyncNet's LSE-D); lower is better.
        lse_c: Median minus smallest mean distance (SyncNet's LSE-C, confidence); higher is better.
        lip_offset: Offset of the smallest distance in steps of 0.04 s with SyncNet's sign: +k when the sound
            runs k steps ahead of the mouth, -k when it lags.
    """

    lip_sync: float
    lse_d: float
    lse_c: float
    lip_offset: float


def step_distances(audio: Tensor, video: Tensor, *, max_offset: int = 15) -> Tensor:
    """Return the distance of audio and video embeddings of each step at each offset.

    The audio is padded with zero vectors on both sides, as SyncNet's evaluation does. Offsets beyond the clip are
    left out.

    Args:
        audio: (T, D) embeddings at 25 Hz.
        video: (T, D) embeddings at 25 Hz.
        max_offset: Largest offset M in steps.

    Returns:
        (T, 2M+1); entry i, j compares video step i with audio step i + j - M, M = min(max_offset, T-1).
    """
    if audio.shape != video.shape or audio.ndim != 2 or len(audio) == 0:
        raise ValueError(
            f"audio and video must both be (T, D), T > 0; got {tuple(audio.shape)} and {tuple(video.shape)}"
        )
    steps = len(video)
    reach = min(max_offset, steps - 1)
    padded = F.pad(audio.float(), (0, 0, reach, reach))
    at_offsets = [padded[j : j + steps] for j in range(2 * reach + 1)]
    return torch.stack([torch.linalg.vector_norm(video.float() - sound, dim=-1) for sound in at_offsets], 1)


def offset_distances(audio: Tensor, video: Tensor, *, max_offset: int = 15) -> Tensor:
    """Return the mean of `step_distances` over all T video steps at each offset, (2M+1,)."""
    return step_distances(audio, video, max_offset=max_offset).mean(0)


@dataclass(frozen=True)
class OffsetScores:
    """SyncNet's scores of a clip or of a part of it; see `LipSyncScores` for their meaning."""

    lse_d: float
    lse_c: float
    lip_offset: float


def offset_doubt(lip_offset: float, max_offset: int, n_steps: int) -> list[str]:
    """Return why an offset may be none: it is the largest that was looked for in a clip of n_steps steps."""
    return [AT_EDGE] if abs(lip_offset) >= min(max_offset, n_steps - 1) else []


def offset_scores(distances: Tensor) -> OffsetScores:
    """Read LSE-D, LSE-C and the offset from mean distances (2M+1,) at the offsets.

    Example:
        >>> offset_scores(torch.tensor([9.0, 5.0, 8.0, 9.0, 9.0]))
        OffsetScores(lse_d=5.0, lse_c=4.0, lip_offset=1.0)
    """
    best = int(distances.argmin())
    return OffsetScores(
        lse_d=distances[best].item(),
        lse_c=(distances.median() - distances[best]).item(),
        lip_offset=float(len(distances) // 2 - best),
    )


def windowed_offset_scores(distances: Tensor, *, window: int, hop: int) -> list[OffsetScores]:
    """Return the scores of windows over `step_distances` (T, 2M+1), the first at step 0, then every `hop` steps.

    Unlike over the whole clip, steps whose sound lies outside the clip do not count, and an offset at which they are
    more than half of the window is left out: near the ends, only some offsets can be seen. A clip shorter than a window
    is one window.
    """
    steps, reach = len(distances), distances.shape[1] // 2
    sound = torch.arange(steps)[:, None] + torch.arange(-reach, reach + 1)[None]
    heard = ((sound >= 0) & (sound < steps)).to(distances)
    found = []
    for start in range(0, max(1, steps - window + 1), hop):
        part, counted = distances[start : start + window], heard[start : start + window]
        share = counted.mean(0)
        means = (part * counted).sum(0) / counted.sum(0).clamp(min=1)
        seen = means[share >= 0.5]
        # what is left out counts as the median, so that it is never the smallest and does not move the median
        found.append(offset_scores(torch.where(share >= 0.5, means, seen.median())))
    return found


def lip_sync_scores(audio: Tensor, video: Tensor, *, max_offset: int = 15) -> LipSyncScores:
    """Score one clip from its audio and video embeddings, both (T, D) at 25 Hz.

    Example:
        >>> steps = torch.eye(4)
        >>> lip_sync_scores(steps, steps).lip_sync
        1.0
    """
    scores = offset_scores(offset_distances(audio, video, max_offset=max_offset))
    return LipSyncScores(cosine_similarity(audio, video).mean().item(), scores.lse_d, scores.lse_c, scores.lip_offset)


def transcript_error_rate(transcript: str, expected: str) -> float:
    """Return word edits (insert, delete, replace) per expected word; 0 is perfect, more than 1 possible.

    Example:
        >>> transcript_error_rate("a e o", "a i o u")
        0.5
    """
    if not expected.split():
        raise ValueError("expected must hold at least one word; got none")
    return word_error_rate([transcript], [expected]).item()
