"""Rectified flow: the noisy path, its velocity, the noise levels of training, and the loss.

Letters: B batch, N tokens, C channels. sigma in [0, 1] is the noise level, 1 = noise.
"""

import torch
from torch import Tensor


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
) -> Tensor:
    """Draw noise levels for training from a shifted logit-normal, one per sample.

    Args:
        batch: how many.
        n_video_tokens: decides the shift.
        generator: source of randomness; its device is where the result lies.
        std: standard deviation before the sigmoid.
        shift: overrides the shift.

    Returns:
        (B,) float32 in (0, 1).
    """
    device = generator.device if generator is not None else None
    normal = torch.randn(batch, generator=generator, device=device)
    return torch.sigmoid(normal * std + (sigma_shift(n_video_tokens) if shift is None else shift))


def velocity_loss(prediction: Tensor, target: Tensor, clean: Tensor) -> Tensor:
    """Mean square error over the tokens that are not clean, in float32.

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
