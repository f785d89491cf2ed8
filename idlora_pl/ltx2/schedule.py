"""The noise levels of sampling, read from diffusers' flow-matching scheduler."""

import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
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
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, time_shift_type="exponential", shift_terminal=terminal
    )
    even = torch.linspace(1.0, 1.0 / steps, steps, dtype=torch.float64)
    scheduler.set_timesteps(sigmas=even.tolist(), mu=sigma_shift(n_tokens))
    return scheduler.sigmas.float()
