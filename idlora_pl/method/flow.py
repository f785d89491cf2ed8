"""Rectified flow: the noisy path, its velocity, the noise levels of training, and the loss.

Letters: B batch, N tokens, C channels. sigma in [0, 1] is the noise level, 1 = noise.
"""

from typing import Literal

import torch
from torch import Tensor

NoiseLevels = Literal["logit_normal", "stretched"]
"""How the noise levels of training are distributed: by the trainer of LTX-2 19B or by that of LTX-2.3 (spec 3.1)."""

LEAST_LEVEL = 1e-3
"""Levels of the stretched distribution are mirrored at this one."""

UNIFORM_PART = 0.1
"""Part of the samples that the stretched distribution draws uniformly."""

LOW_QUANTILE, HIGH_QUANTILE = -2.5758, 3.0902
"""Standard normal numbers that the stretched distribution maps to 0 and 1: 0.5 % and 99.9 %."""


def x_sigma(x0: Tensor, noise: Tensor, sigma: Tensor, clean: Tensor) -> Tensor:
    """The point on the straight path from data to noise: (1 - s) x0 + s noise, with s = 0 on clean tokens.

    Args:
        x0: (B, N, C) data.
        noise: (B, N, C) Gaussian noise.
        sigma: (B,) noise level.
        clean: (B, N) bool, conditioning tokens, which stay data bit for bit.

    Returns:
        (B, N, C) noisy tokens.
    """
    level = sigma[:, None, None]
    return torch.where(clean[..., None], x0, (1 - level) * x0 + level * noise)


def velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """The derivative of the path with respect to sigma, (B, N, C)."""
    return noise - x0


def x0_from_velocity(x: Tensor, v: Tensor, timesteps: Tensor) -> Tensor:
    """The clean estimate of tokens x (B, N, C) with velocities v (B, N, C) and timesteps (B, N) in [0, 1]."""
    return x - v * timesteps[..., None]


def sigma_shift(n_video_tokens: int) -> float:
    """Shift of the noise levels for a number of video tokens: a line through (1024, 0.95) and (4096, 2.05).

    The authors do not clamp it, so short clips get less noise than 1024 tokens and long ones more than 4096.

    Example:
        >>> sigma_shift(4096)
        2.05
    """
    return 0.95 + (n_video_tokens - 1024) * (2.05 - 0.95) / (4096 - 1024)


def sample_sigma(
    batch: int,
    n_video_tokens: int,
    generator: torch.Generator | None = None,
    std: float = 1.0,
    shift: float | None = None,
    levels: NoiseLevels = "logit_normal",
) -> Tensor:
    """Draw noise levels for training, one per sample: a shifted logit-normal, plain or stretched.

    Args:
        batch: how many.
        n_video_tokens: decides the shift.
        generator: source of randomness; its device is where the result lies.
        std: standard deviation before the sigmoid.
        shift: overrides the shift.
        levels: "stretched" draws two more numbers per sample; see `stretched_sigma`.

    Returns:
        (B,) float32 in [0, 1].
    """
    device = generator.device if generator is not None else None
    normal = torch.randn(batch, generator=generator, device=device)
    shift = sigma_shift(n_video_tokens) if shift is None else shift
    if levels == "logit_normal":
        return logit_normal_sigma(normal, shift, std=std)
    uniform, choice = (torch.rand(batch, generator=generator, device=device) for _ in range(2))
    return stretched_sigma(normal, uniform, choice, shift, std=std)


def logit_normal_sigma(normals: Tensor, shift: float, *, std: float = 1.0) -> Tensor:
    """Noise levels of the LTX-2 19B trainer: a shifted logit-normal, not clamped (spec 3.1).

    Args:
        normals: (B,) standard normal numbers.
        shift: shift before the sigmoid, of `sigma_shift`.
        std: standard deviation before the sigmoid.

    Example:
        >>> logit_normal_sigma(torch.tensor([-1.0, 0.0]), shift=1.0)
        tensor([0.5000, 0.7311])
    """
    return torch.sigmoid(normals * std + shift)


def stretched_sigma(
    normals: Tensor,
    uniform: Tensor,
    choice: Tensor,
    shift: float,
    *,
    std: float = 1.0,
    least: float = LEAST_LEVEL,
    uniform_part: float = UNIFORM_PART,
) -> Tensor:
    """Noise levels of the LTX-2.3 trainer: a shifted logit-normal stretched to [0, 1], one in ten uniform (spec 3.1).

    The stretch maps the 0.5 % and the 99.9 % quantile to 0 and 1. Levels below `least` are mirrored there.

    Args:
        normals: (B,) standard normal numbers.
        uniform: (B,) numbers in [0, 1): the level of a sample that is drawn uniformly.
        choice: (B,) numbers in [0, 1): a sample is drawn uniformly where it is at most
            `uniform_part`.
        shift: shift before the sigmoid, of `sigma_shift`.
        std: standard deviation before the sigmoid.
        least: the level at which lower ones are mirrored; uniform levels start at it.
        uniform_part: part of the samples that is drawn uniformly.

    Returns:
        (B,) noise levels in [0, 1].

    Example:
        >>> draws = torch.tensor([-3.0, 0.0, 4.0]), torch.full((3,), 0.5), torch.tensor([0.5, 0.05, 0.5])
        >>> stretched_sigma(*draws, shift=0.0)
        tensor([0.0283, 0.5005, 1.0000])
    """
    bottom, top = torch.sigmoid(normals.new_tensor([LOW_QUANTILE * std + shift, HIGH_QUANTILE * std + shift]))
    stretched = (logit_normal_sigma(normals, shift, std=std) - bottom) / (top - bottom)
    mirrored = torch.where(stretched < least, 2 * least - stretched, stretched).clamp(0, 1)
    return torch.where(choice > uniform_part, mirrored, (1 - least) * uniform + least)


def velocity_loss(prediction: Tensor, target: Tensor, clean: Tensor) -> Tensor:
    """Mean square error over the tokens that are not clean, in float32 (spec 3.3).

    Args:
        prediction: (B, N, C) predicted velocities.
        target: (B, N, C) true velocities.
        clean: (B, N) bool, conditioning tokens, which carry no loss.

    Returns:
        A scalar; 0 when every token is clean.
    """
    per_token = (prediction.float() - target.float()).square().mean(dim=-1)
    noisy = ~clean
    return torch.where(noisy, per_token, 0).sum() / noisy.sum().clamp(min=1)
