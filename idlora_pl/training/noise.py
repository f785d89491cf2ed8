"""What is drawn at random in training: a function of the seed and of the place in training, so a resume draws the same.

Batches whose items were padded to one length are taken apart again, so that no padding reaches the model. Shard sets
have one length, so there is padding only where a set was imported with it. Such items tell their true lengths in
`meta`: "target_tokens" and "reference_tokens"; the padding follows the data.

Letters: B batch, N tokens, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from idlora_pl.data.samples import PairBatch, ShardError
from idlora_pl.method.flow import NoiseLevels, sample_sigma
from idlora_pl.method.tokens import TextContext, TextFeatures, patchify_audio

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


Part = tuple[PairBatch, Noise, TextContext]


def unpadded(batch: PairBatch, noise: Noise, text: TextContext) -> list[Part]:
    """Split a batch into parts of equal true lengths, cut to them; without padding it is returned as it is.

    Args:
        batch: Targets and references as latents; `meta` tells the true lengths.
        noise: What was drawn for it.
        text: Context of its prompts.

    Raises:
        ShardError: If a true length is no number of tokens of this batch.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for index in range(len(batch)):
        groups.setdefault(true_lengths(batch, index), []).append(index)
    if list(groups) == [_full(batch)]:
        return [(batch, noise, text)]
    return [_part(batch, noise, text, rows, lengths) for lengths, rows in groups.items()]


def true_lengths(batch: PairBatch, index: int) -> tuple[int, int]:
    """Return how many target and reference audio tokens of an item are data and not padding.

    Raises:
        ShardError: If `meta` names a length that the item cannot have.
    """
    meta, found = batch.meta[index], []
    for name, full in zip(("target_tokens", "reference_tokens"), _full(batch), strict=True):
        length = meta.get(name, full)
        if type(length) is not int or not 1 <= length <= full:
            raise ShardError(
                f"clip {meta.get('key')}: meta '{name}' must be a whole number in 1..{full}; got {length!r}; "
                "write the shard again"
            )
        found.append(length)
    return found[0], found[1]


def _full(batch: PairBatch) -> tuple[int, int]:
    return batch.target_audio.shape[2], batch.reference.shape[2]


def _part(batch: PairBatch, noise: Noise, text: TextContext, rows: list[int], lengths: tuple[int, int]) -> Part:
    n_target, n_reference = lengths

    def chosen(tensor: Tensor) -> Tensor:
        return tensor[rows]

    return (
        PairBatch(
            chosen(batch.target_video),
            chosen(batch.target_audio)[:, :, :n_target],
            chosen(batch.reference)[:, :, :n_reference],
            TextFeatures(chosen(batch.text.video), chosen(batch.text.audio), chosen(batch.text.mask)),
            [batch.meta[row] for row in rows],
        ),
        Noise(chosen(noise.sigma), chosen(noise.video), chosen(noise.audio)[:, :n_target], chosen(noise.first_frame)),
        TextContext(chosen(text.video), chosen(text.audio), None if text.mask is None else chosen(text.mask)),
    )
