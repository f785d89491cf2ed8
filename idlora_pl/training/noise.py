"""What is drawn at random in training: a function of the seed and of the place in training, so a resume draws the same.

Letters: B batch, N tokens, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from idlora_pl.data.shards import PairBatch
from idlora_pl.method.flow import sample_sigma
from idlora_pl.method.tokens import patchify_audio


@dataclass(frozen=True)
class Noise:
    """What is drawn for one batch.

    Attributes:
        sigma: (B,) noise level, shared by video and audio.
        video: (B, Nv, C) Gaussian noise.
        audio: (B, Na, C) Gaussian noise.
        first_frame: (B,) bool, whether a sample's first latent frame is given clean.
    """

    sigma: Tensor
    video: Tensor
    audio: Tensor
    first_frame: Tensor


def generator_at(seed: int, *place: int) -> torch.Generator:
    """Return the CPU generator of a place, such as (epoch, batch, rank).

    Example:
        >>> [int(torch.randint(100, (), generator=generator_at(42, 0, batch))) for batch in (0, 1, 0)]
        [10, 7, 10]
    """
    state = np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)


def draw_noise(batch: PairBatch, first_frame_p: float, generator: torch.Generator) -> Noise:
    """Draw noise level, noise and first-frame coin of every sample of a batch.

    Args:
        batch: Its shapes and its device are read.
        first_frame_p: Probability that a sample's first frame is given clean.
        generator: On the CPU, so that a GPU trains on the same draws.
    """
    batch_size, channels, *grid = batch.target_video.shape
    n_video, device = math.prod(grid), batch.target_video.device
    return Noise(
        sample_sigma(batch_size, n_video, generator).to(device),
        torch.randn(batch_size, n_video, channels, generator=generator).to(device),
        torch.randn(patchify_audio(batch.target_audio).shape, generator=generator).to(device),
        (torch.rand(batch_size, generator=generator) < first_frame_p).to(device),
    )
