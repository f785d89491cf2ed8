"""The arithmetic of the metrics: tensors in, numbers out, no networks and no state."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.text import word_error_rate


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


def offset_distances(audio: Tensor, video: Tensor, *, max_offset: int = 15) -> Tensor:
    """Return the mean distance of audio and video embeddings at each offset.

    The audio is padded with zero vectors on both sides, as SyncNet's evaluation does, so every offset
    averages over all T video steps. Offsets beyond the clip are left out.

    Args:
        audio: (T, D) embeddings at 25 Hz.
        video: (T, D) embeddings at 25 Hz.
        max_offset: Largest offset M in steps.

    Returns:
        (2M+1,) distances; entry j compares video step i with audio step i + j - M, M = min(max_offset, T-1).
    """
    if audio.shape != video.shape or audio.ndim != 2 or len(audio) == 0:
        raise ValueError(
            f"audio and video must both be (T, D), T > 0; got {tuple(audio.shape)} and {tuple(video.shape)}"
        )
    steps = len(video)
    reach = min(max_offset, steps - 1)
    padded = F.pad(audio.float(), (0, 0, reach, reach))
    distances = [
        torch.linalg.vector_norm(video.float() - padded[j : j + steps], dim=-1).mean() for j in range(2 * reach + 1)
    ]
    return torch.stack(distances)


def lip_sync_scores(audio: Tensor, video: Tensor, *, max_offset: int = 15) -> LipSyncScores:
    """Score one clip from its audio and video embeddings, both (T, D) at 25 Hz.

    Example:
        >>> steps = torch.eye(4)
        >>> lip_sync_scores(steps, steps).lip_sync
        1.0
    """
    distances = offset_distances(audio, video, max_offset=max_offset)
    best = int(distances.argmin())
    return LipSyncScores(
        lip_sync=cosine_similarity(audio, video).mean().item(),
        lse_d=distances[best].item(),
        lse_c=(distances.median() - distances[best]).item(),
        lip_offset=float(len(distances) // 2 - best),
    )


def transcript_error_rate(transcript: str, expected: str) -> float:
    """Return word edits (insert, delete, replace) per expected word; 0 is perfect, more than 1 possible.

    Example:
        >>> transcript_error_rate("a e o", "a i o u")
        0.5
    """
    if not expected.split():
        raise ValueError("expected must hold at least one word; got none")
    return word_error_rate([transcript], [expected]).item()
