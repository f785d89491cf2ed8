"""What is drawn at random in training: a function of the seed and of the place in training, so a resume draws the same.

Letters: B batch, N tokens, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from idlora_pl.data.shards import PairBatch
from idlora_pl.method.flow import NoiseLevels, sample_sigma
from idlora_pl.method.tokens import patchify_audio

Coin = Literal["sample", "batch"]
Precision = Literal["float32", "stored"]

# stands where training has its epoch, and is none
_VALIDATION = 2**32 - 1


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


def generator_at(seed: int, epoch: int = 0, batch: int = 0, rank: int = 0) -> torch.Generator:
    """Return the CPU generator of a place in training; `validation_generator` has places of its own.

    Args:
        seed: Of the run, at least 0; all its bits count.
        epoch: Number of the epoch.
        batch: Number of the batch in it.
        rank: Number of the process.

    Example:
        >>> [int(torch.randint(100, (), generator=generator_at(42, 0, batch))) for batch in (0, 1, 0)]
        [10, 7, 10]
    """
    # always as many entries: numpy fills up with zeros, so that (seed, 3) and (seed, 3, 0) would draw the same
    state = np.random.SeedSequence([seed, epoch, batch, rank]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)


def torch_seed(seed: int) -> int:
    """Return a seed of at most 32 bits, which are all that torch's CPU generator keeps; smaller ones stay as they are.

    Example:
        >>> torch_seed(42), torch_seed(42 + 2**32) == 42
        (42, False)
    """
    return seed if seed < 2**32 else int(np.random.SeedSequence(seed).generate_state(1)[0])


def validation_generator(seed: int, batch: int, rank: int) -> torch.Generator:
    """Return the CPU generator of a batch of validation, whose noise is that of no batch of training.

    Args:
        seed: Of the run, at least 0.
        batch: Number of the batch.
        rank: Number of the process.
    """
    return generator_at(seed, _VALIDATION, batch, rank)


def draw_noise(
    batch: PairBatch,
    first_frame_p: float,
    generator: torch.Generator,
    *,
    coin: Coin = "sample",
    levels: NoiseLevels = "logit_normal",
    precision: Precision = "float32",
) -> Noise:
    """Draw noise level, noise and first-frame coin of every sample of a batch.

    Args:
        batch: Its shapes, its dtypes and its device are read.
        first_frame_p: Probability that a first frame is given clean.
        generator: On the CPU, so that a GPU trains on the same draws.
        coin: Whether every sample or the batch as a whole tosses for its first frame.
        levels: Distribution of the noise levels.
        precision: "stored" rounds the noise to the dtype of the latents, as the authors' trainer does (spec 3.2).
    """
    batch_size, channels, *grid = batch.target_video.shape
    n_video, device = math.prod(grid), batch.target_video.device
    stored = precision == "stored"
    return Noise(
        sample_sigma(batch_size, n_video, generator, levels=levels).to(device),
        torch.randn(batch_size, n_video, channels, generator=generator).to(batch.target_video if stored else device),
        torch.randn(patchify_audio(batch.target_audio).shape, generator=generator).to(
            batch.target_audio if stored else device
        ),
        (torch.rand(batch_size if coin == "sample" else 1, generator=generator) < first_frame_p)
        .expand(batch_size)
        .to(device),
    )
