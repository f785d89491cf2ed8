"""Optimiser and learning-rate schedule of the paper's training run."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


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


class LinearDecay(LRScheduler):
    """A rate that is a function of the step and of this run's settings, also in a run that goes on from a checkpoint.

    So another rate, or another length, takes effect there: the rate lies on the line of the run as it is set up now.

    Args:
        optimizer: Whose rate it sets; the one that it has is the peak.
        final_fraction: Part of the peak at the end, and after it.
        steps: Length of the whole run.
    """

    def __init__(self, optimizer: Optimizer, final_fraction: float, steps: int) -> None:
        self._final_fraction, self._steps = final_fraction, max(1, steps)
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rates of the step that comes next."""
        done = min(self.last_epoch / self._steps, 1.0)
        return [peak * (1.0 - (1.0 - self._final_fraction) * done) for peak in self.base_lrs]

    def state_dict(self) -> dict[str, int]:
        """Return the number of steps: everything else is a setting."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Set the rate of the step after the last one."""
        self.last_epoch = state_dict["last_epoch"]
        for group, peak, rate in zip(self.optimizer.param_groups, self.base_lrs, self.get_lr(), strict=True):
            group["initial_lr"], group["lr"] = peak, rate
        self._last_lr = self.get_lr()


def state_bits(settings: AdamW) -> int:
    """Return how many bits a number of the optimiser's state has here.

    Raises:
        ValueError: If 8-bit states are asked for where they cannot be had.
    """
    available = torch.cuda.is_available() and importlib.util.find_spec("bitsandbytes") is not None
    if settings.state_bits == "8" and not available:
        raise ValueError(
            "optimizer.state_bits is 8, which needs CUDA and bitsandbytes: pip install bitsandbytes, or set it to 32"
        )
    return 8 if available and settings.state_bits != "32" else 32


def build_optimizer(settings: AdamW, weights: Iterable[Tensor], steps: float) -> OptimizerLRSchedulerConfig:
    """Build the optimiser and its schedule in the form that Lightning takes.

    Args:
        settings: See `AdamW`.
        weights: What is trained.
        steps: Optimiser steps of the whole run.

    Raises:
        ValueError: If 8-bit states are asked for where they cannot be had, or the run has no end.
    """
    if math.isinf(steps):
        raise ValueError(
            "the learning rate falls over the whole run, whose length is not known: give --trainer.max_steps "
            "(or max_epochs)"
        )
    kind: Any = torch.optim.AdamW
    if state_bits(settings) == 8:
        import bitsandbytes  # type: ignore[import-not-found]

        kind = bitsandbytes.optim.AdamW8bit
    optimizer = kind(weights, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay)
    schedule = LinearDecay(optimizer, settings.final_fraction, int(steps))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
