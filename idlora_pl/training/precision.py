"""The numbers that a training computes with."""

from __future__ import annotations

from lightning.pytorch.plugins import Precision
from torch.nn import Module

SUPPORTED = ("32-true", "bf16-mixed", "bf16-true")
_ALIASES = {None: "32-true", "32": "32-true", "bf16": "bf16-mixed"}


class BFloat16Base(Precision):
    """`bf16-true`: weights and activations of the frozen base in bfloat16, the adapter and its optimiser in float32.

    An update of AdamW is below half a unit in the last place of most bfloat16 weights and would be lost, so the adapter
    is not rounded. Positions, noise levels, velocities and losses stay float32, as everywhere.
    """

    precision = "bf16-true"

    def convert_module(self, module: Module) -> Module:
        """Round what is not trained."""
        for weight in module.parameters():
            if not weight.requires_grad and weight.is_floating_point():
                weight.data = weight.data.bfloat16()
        return module


def checked_precision(asked: str | int | None) -> str:
    """Return the name of a precision in Lightning's long form.

    Args:
        asked: `trainer.precision`.

    Raises:
        ValueError: If it is not supported.

    Example:
        >>> checked_precision(32), checked_precision("bf16")
        ('32-true', 'bf16-mixed')
    """
    name = asked if asked is None else str(asked)
    known = _ALIASES.get(name, name)
    if known not in SUPPORTED:
        raise ValueError(
            f"trainer.precision {asked} is not supported: the base is bfloat16 or float32, and the adapter is trained "
            f"in float32; choose one of {', '.join(SUPPORTED)}"
        )
    return str(known)


def refuse_precision(plugin: Precision) -> None:
    """Raise ValueError when a trainer's plugin computes with other numbers than are supported."""
    if checked_precision(plugin.precision) == "bf16-true" and not isinstance(plugin, BFloat16Base):
        raise ValueError(
            "precision bf16-true would round the adapter, too; give the Trainer "
            "plugins=[idlora_pl.training.precision.BFloat16Base()] in its place"
        )
