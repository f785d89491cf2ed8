"""Muon in float32 for many equal-shaped matrices at once.

`torch.optim.Muon` orthogonalises each matrix alone in bfloat16, which costs 2 s a step on two CPU cores for the nano
base; stacking the matrices of one shape in float32 costs 0.07 s. Nothing here is specific to the method.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of (M, R, C) matrices towards one with a quintic Newton-Schulz iteration."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class StackedMuon(torch.optim.Optimizer):
    """Momentum with orthogonalised updates for 2-D weights.

    Args:
        params: 2-D parameters.
        lr: Step size; an update has a root mean square of about lr * 0.2.
        momentum: Nesterov momentum.
        weight_decay: Decoupled weight decay.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 0.01, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes[tuple(weight.shape)].append(weight)
            for weights in shapes.values():
                self._step_shape(weights, group)

    def _step_shape(self, weights: list[Tensor], group: dict) -> None:
        updates = []
        for weight in weights:
            velocity = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
            assert weight.grad is not None  # `step` has left out weights without a gradient
            velocity.lerp_(weight.grad, 1 - group["momentum"])
            updates.append(torch.lerp(weight.grad, velocity, group["momentum"]))
        scale = 0.2 * max(weights[0].shape) ** 0.5
        for weight, update in zip(weights, orthogonalise(torch.stack(updates)), strict=True):
            weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * scale)
