"""The noise levels of sampling, read from diffusers' flow-matching scheduler."""

import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from idlora_pl.method.flow import sigma_shift


def sigmas(steps: int, n_tokens: int = 4096) -> Tensor:
    """Noise levels of a sampling run, from 1 over 0.1 to 0.

    Args:
        steps: how many steps.
        n_tokens: video tokens that decide the shift; the authors' scripts use 4096 at every resolution.

    Returns:
        (steps + 1,) float32, falling.

    Example:
        >>> sigmas(4)[-2:]
        tensor([0.1000, 0.0000])
    """
    if steps < 2:
        raise ValueError(f"steps must be at least 2, because the last step starts at 0.1; got {steps}")
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, time_shift_type="exponential", shift_terminal=0.1
    )
    even = torch.linspace(1.0, 1.0 / steps, steps, dtype=torch.float64)
    scheduler.set_timesteps(sigmas=even.tolist(), mu=sigma_shift(n_tokens))
    return scheduler.sigmas.float()
