"""Sampling: noise that does not depend on the batch, the released scripts' noise, and Euler steps along the velocity.

Letters: B batch, N tokens, C channels, S steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from idlora_pl.method.guidance import Velocities
from idlora_pl.method.tokens import AVSequence

# Noise of every sample and modality by itself, or the noise of the released scripts.
NoiseSource = Literal["independent", "released"]

# torch's CPU generator keeps 32 bits of a seed. Seeds below 2^29 have room in them for two streams of the start and of
# the fresh noise of three stages; whatever does not fit is hashed, so that no bit of a seed is lost.
_PLAIN_SEEDS, _PLAIN_STAGES = 2**29, 3


def noise_generator(seed: int, stream: int, *, fresh_of_stage: int | None = None) -> torch.Generator:
    """Return the CPU generator of one stream of noise of one sample.

    Args:
        seed: of the sample, any integer. Two seeds of 2^29 or more meet by chance only, once in 2^32.
        stream: 0 (video) or 1 (audio).
        fresh_of_stage: None for what sampling starts from, else the stage whose fresh noise of "res2s" is drawn.

    Raises:
        ValueError: when stream is neither 0 nor 1.

    Example:
        >>> seeds = (7, 7 + 2**32, 7 + 2**31)
        >>> len({float(torch.randn((), generator=noise_generator(seed, 0))) for seed in seeds})
        3
    """
    if stream not in (0, 1):
        raise ValueError(f"stream must be 0 (video) or 1 (audio); got {stream}")
    stage = 0 if fresh_of_stage is None else fresh_of_stage
    if 0 <= seed < _PLAIN_SEEDS and stage < _PLAIN_STAGES:
        number = 2 * (seed + stage * _PLAIN_SEEDS) + stream
        # the negative numbers never meet those of the start
        return torch.Generator().manual_seed(number if fresh_of_stage is None else -1 - number)
    digest = sha256(f"{seed} {stream} {fresh_of_stage}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))


def noise_tokens(seeds: Sequence[int], n_tokens: int, channels: int, *, stream: int = 0) -> Tensor:
    """Draw Gaussian noise with one CPU generator per sample, so that batching never changes a sample.

    Args:
        seeds: one seed per sample; see `noise_generator`.
        n_tokens: tokens per sample.
        channels: channels per token.
        stream: 0 or 1, independent noise for the same seed; use 0 for video and 1 for audio.

    Returns:
        (B, N, C) float32 on the CPU.
    """
    generators = [noise_generator(seed, stream) for seed in seeds]
    return torch.stack([torch.randn(n_tokens, channels, generator=generator) for generator in generators])


def released_generator(seed: int, device: str | torch.device = "cpu") -> torch.Generator:
    """Return the generator of the released scripts, which is seeded with the number itself.

    Args:
        seed: of the sample.
        device: on the CPU, torch keeps 32 bits of a seed.

    Raises:
        ValueError: when the seed is 2^32 or more on the CPU, where it would repeat the noise of another one.
    """
    device = torch.device(device)
    if device.type == "cpu" and not 0 <= seed < 2**32:
        raise ValueError(
            f"seed {seed} repeats the noise of seed {seed % 2**32} in the released order on the CPU; give a seed below "
            "2^32, or noise: independent"
        )
    return torch.Generator(device).manual_seed(seed)


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
    generator = released_generator(seed, device)
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
