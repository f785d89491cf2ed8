"""Sampling: noise that does not depend on the batch, and Euler steps along the velocity.

Letters: B batch, N tokens, C channels, S steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from idlora_pl.method.guidance import Velocities
from idlora_pl.method.tokens import AVSequence, Tokens


def noise_tokens(seeds: Sequence[int], n_tokens: int, channels: int, *, stream: int = 0) -> Tensor:
    """Draw Gaussian noise with one CPU generator per sample, so that batching never changes a sample.

    Args:
        seeds: one seed per sample.
        n_tokens: tokens per sample.
        channels: channels per token.
        stream: 0 or 1, independent noise for the same seed; use 0 for video and 1 for audio.

    Returns:
        (B, N, C) float32 on the CPU.
    """
    if stream not in (0, 1):
        raise ValueError(f"stream must be 0 (video) or 1 (audio); got {stream}")
    generators = [torch.Generator().manual_seed(2 * seed + stream) for seed in seeds]
    return torch.stack([torch.randn(n_tokens, channels, generator=generator) for generator in generators])


def sample_euler(
    velocity: Callable[[AVSequence, Tensor], Velocities],
    av: AVSequence,
    sigmas: Tensor,
    on_step: Callable[[int, AVSequence], None] | None = None,
) -> AVSequence:
    """Integrate from noise to data with Euler steps; only tokens that are not clean move.

    Args:
        velocity: predicts the velocities of the target tokens at noise level (B,); guidance happens inside.
        av: the start: noise in the noisy tokens, data in the clean ones.
        sigmas: (S + 1,) falling noise levels.
        on_step: called with the step's number and the sequence after each step.

    Returns:
        The sequence with the latents at the last noise level.

    Example:
        >>> from idlora_pl.method.tokens import TextContext
        >>> tokens = Tokens(torch.ones(1, 2, 4), torch.zeros(1, 1, 2, 2), torch.tensor([[True, False]]))
        >>> text = TextContext(torch.zeros(1, 1, 4), torch.zeros(1, 1, 4))
        >>> one = torch.ones(1, 2, 4)
        >>> start = AVSequence(tokens, tokens, text)
        >>> end = sample_euler(lambda av, sigma: (one, one), start, torch.tensor([1.0, 0.0]))
        >>> end.video.latents[0, :, 0].tolist()
        [1.0, 0.0]
    """
    batch = av.video.latents.shape[0]
    for step, (now, then) in enumerate(pairwise(sigmas)):
        video, audio = velocity(av, now.expand(batch).to(av.video.latents.device))
        change = float(then - now)
        av = replace(av, video=_move(av.video, video, change), audio=_move(av.audio, audio, change))
        if on_step is not None:
            on_step(step, av)
    return av


def _move(tokens: Tokens, velocity: Tensor, change: float) -> Tokens:
    """Move the noisy tokens by velocity * change; the velocity has no rows for the reference."""
    rows = functional.pad(velocity, (0, 0, tokens.n_reference, 0))
    moved = tokens.latents + rows.to(tokens.latents.dtype) * change
    return tokens.with_latents(torch.where(tokens.clean[..., None], tokens.latents, moved))
