"""The second-order sampler of the two-stage HQ script, res2s, in its "legacy" mode with anchor refinement.

It integrates in log noise level, where the exact solution for a constant clean estimate is an exponential; two
evaluations of the model make a step of second order, and after each a part of the noise is drawn anew.
Source: spec section 4.6 (reference file ltx_pipelines/utils/samplers.py).

Letters: B batch, N tokens, C channels, S steps.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from idlora_pl.method.guidance import Velocities
from idlora_pl.method.tokens import AVSequence, Tokens

# The level before 0, where a last evaluation gives the result; log noise levels have no 0.
_LAST_LEVEL = 0.0011
# Part of the next noise level that is drawn anew (the reference's eta).
_FRESH = 0.5
# The anchor is refined in steps below this length, at levels above this one.
_REFINED_LENGTH, _REFINED_LEVEL = 0.5, 0.03

Field = Callable[[AVSequence, Tensor], Velocities]
Pair = tuple[Tensor, Tensor]


def sample_res2s(
    velocity: Field,
    av: AVSequence,
    sigmas: Tensor,
    draw: Iterator[Tensor] | None = None,
    on_step: Callable[[int, AVSequence], None] | None = None,
) -> AVSequence:
    """Integrate from noise to data with two evaluations a step; only tokens that are not clean move.

    A schedule that ends at 0 goes to 0.0011 instead, and the clean estimate there is the result: 2S + 1 evaluations.
    The state of a step is float64, what the model gets has the dtype of the latents.

    Args:
        velocity: predicts the velocities of the target tokens at noise level (B,); guidance happens inside.
        av: the start: noise in the noisy tokens, data in the clean ones.
        sigmas: (S + 1,) falling noise levels.
        draw: yields fresh noise, (B, N, C) with rows for every token; a step takes video, audio (middle), video,
            audio (end). See `sde_noise`. None adds no fresh noise: the sampler of the plain differential equation.
        on_step: called with the step's number and the sequence after each step.

    Returns:
        The sequence with the latents at the last noise level.

    Raises:
        ValueError: when the levels do not fall, the last step starts below 0.0011, or draw ends too early.
    """
    levels = _levels(sigmas)
    for step, (now, then) in enumerate(pairwise(levels)):
        av = _step(velocity, av, now, then, draw)
        if step == len(levels) - 2 and sigmas[-1] == 0:
            av = _with(av, _clean_estimates(velocity, av, then))
        if on_step is not None:
            on_step(step, av)
    return av


def _levels(sigmas: Tensor) -> list[float]:
    levels = [float(level) for level in sigmas]
    if levels[-1] == 0:
        levels[-1] = _LAST_LEVEL
    if any(now <= then for now, then in pairwise(levels)):
        raise ValueError(f"sigmas of res2s must fall, and to 0 from above {_LAST_LEVEL}; got {sigmas.tolist()}")
    return levels


def _step(velocity: Field, av: AVSequence, now: float, then: float, draw: Iterator[Tensor] | None) -> AVSequence:
    length, middle_level = math.log(now / then), math.sqrt(now * then)
    to_middle = length * 0.5 * _phi(1, -length / 2)
    second_weight = length * 2 * _phi(2, -length)
    first_weight = length * _phi(1, -length) - second_weight
    anchor = (av.video.latents.double(), av.audio.latents.double())

    first = _clean_estimates(velocity, av, now)
    middle = _both(lambda x, x0: x + to_middle * (x0 - x), anchor, first)
    middle = _renoise(av, anchor, middle, (now, middle_level), draw)
    if length < _REFINED_LENGTH and now > _REFINED_LEVEL:
        # where the 100 iterations anchor = middle - to_middle * (first - anchor) of the reference end up
        anchor = _both(lambda x, x0: (x - to_middle * x0) / (1 - to_middle), middle, first)
    second = _clean_estimates(velocity, _with(av, middle), middle_level)
    end = _both(lambda x, one, two: x + first_weight * (one - x) + second_weight * (two - x), anchor, first, second)
    return _with(av, _renoise(av, anchor, end, (now, then), draw))


def _phi(order: int, z: float) -> float:
    """(e^z - 1)/z, or (e^z - 1 - z)/z^2."""
    return math.expm1(z) / z if order == 1 else (math.expm1(z) - z) / z**2


def _clean_estimates(velocity: Field, av: AVSequence, level: float) -> Pair:
    latents = av.video.latents
    velocities = velocity(av, torch.full((latents.shape[0],), level, device=latents.device))
    return _both(lambda tokens, v: tokens.moved(v, -level).latents.double(), (av.video, av.audio), velocities)


def _renoise(
    av: AVSequence, sample: Pair, arrived: Pair, levels: tuple[float, float], draw: Iterator[Tensor] | None
) -> Pair:
    """Exchange a part of the noise of what arrived at the second level from the sample at the first."""
    now, then = levels
    fresh = _FRESH * then
    kept = math.sqrt(then**2 - fresh**2)
    scale = 1 - then + kept

    def exchange(tokens: Tokens, x: Tensor, y: Tensor) -> Tensor:
        if draw is not None:
            eps = (x - y) / (now - then)
            y = scale * (x - now * eps) + kept * eps + fresh * _drawn(draw).to(x)
        return torch.where(tokens.clean[..., None], tokens.latents.double(), y)

    return _both(exchange, (av.video, av.audio), sample, arrived)


def _drawn(draw: Iterator[Tensor]) -> Tensor:
    noise = next(draw, None)
    if noise is None:
        raise ValueError("draw ended before the last step; res2s takes 4 tensors a step, see sde_noise")
    return noise


def _with(av: AVSequence, latents: Pair) -> AVSequence:
    video, audio = (
        tokens.with_latents(x.to(tokens.latents)) for tokens, x in zip((av.video, av.audio), latents, strict=True)
    )
    return replace(av, video=video, audio=audio)


def _both(function: Callable[..., Tensor], *pairs: tuple[object, object]) -> Pair:
    """Apply a function to the video parts, then to the audio parts."""
    video, audio = (function(*parts) for parts in zip(*pairs, strict=True))
    return video, audio
