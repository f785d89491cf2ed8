"""Sampling: Euler steps along the velocity.

Letters: B batch, N tokens, C channels, S steps.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from torch import Tensor

from idlora_pl.method.guidance import Velocities
from idlora_pl.method.tokens import AVSequence


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
        >>> import torch
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
