"""Sampling: noise that does not depend on the batch, the released scripts' noise, and Euler steps along the velocity.

Letters: B batch, N tokens, C channels, S steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from idlora_pl.method.guidance import Velocities
from idlora_pl.method.tokens import AVSequence

# Noise of every sample and modality by itself, or the noise of the released scripts.
NoiseSource = Literal["independent", "released"]


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


def released_noise(
    seed: int,
    n_video: int,
    n_audio: int,
    channels: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> tuple[Tensor, Tensor]:
    """Draw the start of one sample as the released scripts do: one generator, video first, then all audio.

    The noise of the target audio depends on the length of the reference, whose rows are drawn before it and then
    not used. The scripts draw bfloat16 on the GPU, which gives other numbers than float32 or the CPU; the golden
    runs drew float32 on the CPU (spec section 4.2).

    Args:
        seed: seed of the sample; the scripts use the run's seed + the number of the prompt.
        n_video: video tokens.
        n_audio: audio tokens, reference and target.
        channels: channels per token.
        dtype: dtype of the draw.
        device: device of the generator.

    Returns:
        (1, N, C) of video and of audio [reference, target].
    """
    generator = torch.Generator(device).manual_seed(seed)
    video, audio = (
        torch.randn(1, n_tokens, channels, generator=generator, dtype=dtype, device=device)
        for n_tokens in (n_video, n_audio)
    )
    return video, audio


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
        >>> from idlora_pl.method.tokens import TextContext, Tokens
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
        av = replace(av, video=av.video.moved(video, change), audio=av.audio.moved(audio, change))
        if on_step is not None:
            on_step(step, av)
    return av
