"""Optimiser and learning-rate schedule of the paper's training run."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor


@dataclass(frozen=True)
class AdamW:
    """AdamW with a linear decay (ID-LoRA, released configs).

    Attributes:
        learning_rate: Peak rate, reached at once (no warm-up).
        weight_decay: Decoupled weight decay.
        betas: Momentum of first and second moment.
        final_fraction: The rate falls linearly to this part of the peak over the whole run.
        state_bits: 8 needs CUDA and bitsandbytes, 32 is torch's AdamW; "auto" takes 8 where it can.
    """

    learning_rate: float = 2e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    final_fraction: float = 0.1
    state_bits: Literal["auto", "8", "32"] = "auto"


def build_optimizer(settings: AdamW, weights: Iterable[Tensor], steps: int) -> OptimizerLRSchedulerConfig:
    """Build the optimiser and its schedule in the form that Lightning takes.

    Args:
        settings: See `AdamW`.
        weights: What is trained.
        steps: Optimiser steps of the whole run.

    Raises:
        ValueError: If 8-bit states are asked for where they cannot be had.
    """
    available = torch.cuda.is_available() and importlib.util.find_spec("bitsandbytes") is not None
    if settings.state_bits == "8" and not available:
        raise ValueError(
            "optimizer.state_bits is 8, which needs CUDA and bitsandbytes: pip install bitsandbytes, or set it to 32"
        )
    kind: Any = torch.optim.AdamW
    if available and settings.state_bits != "32":
        import bitsandbytes  # type: ignore[import-not-found]

        kind = bitsandbytes.optim.AdamW8bit
    optimizer = kind(weights, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, settings.final_fraction, total_iters=max(1, steps))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
