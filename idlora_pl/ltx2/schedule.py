"""The noise levels of sampling.

diffusers' flow-matching scheduler computes the same levels in float64. The authors compute them in float32, where the
shift of many tokens leaves few digits: at 8 steps and 16,384 tokens the two differ by 5e-6, at 36,864 tokens by 8e-3.
Adapters are judged on the authors' levels, so these are theirs, operation by operation.
"""

import math

import torch
from torch import Tensor

from idlora_pl.method.flow import sigma_shift

DISTILLED_SIGMAS = (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0)
"""Noise levels of the distilled model (spec section 4.1)."""

STAGE_2_SIGMAS = DISTILLED_SIGMAS[-4:]
"""Noise levels of a second stage, which starts from an upsampled clip (spec section 4.1)."""


def sigmas(steps: int, n_tokens: int = 4096, *, terminal: float | None = 0.1) -> Tensor:
    """Noise levels of a sampling run, from 1 over 0.1 to 0 (spec section 4.1).

    Args:
        steps: how many steps.
        n_tokens: video tokens that decide the shift; the authors' scripts use 4096 at every resolution.
        terminal: the levels are stretched until the last step starts here, as in all released scripts; None leaves
            them as they are.

    Returns:
        (steps + 1,) float32, falling.

    Example:
        >>> sigmas(4)[-2:]
        tensor([0.1000, 0.0000])
    """
    if terminal is not None and steps < 2:
        raise ValueError(f"steps must be at least 2, because the last step starts at {terminal}; got {steps}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1; got {steps}")
    even = torch.linspace(1.0, 0.0, steps + 1)[:-1]
    growth = math.exp(sigma_shift(n_tokens))
    levels = growth / (growth + (1 / even - 1))
    if terminal is not None:
        left = 1 - levels
        levels = 1 - left / (left[-1] / (1 - terminal))
    return torch.cat([levels, levels.new_zeros(1)])
