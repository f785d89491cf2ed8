"""What a checkpoint holds: the adapter and its recipe, and nothing of the frozen base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idlora_pl.ltx2.lora import load_lora_state_dict, lora_state_dict
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.in_context import InContext


def adapter_state(model: LTX2, in_context: InContext) -> dict[str, Any]:
    """Return the entries of a checkpoint: the adapter's tensors on the CPU, and the recipe."""
    tensors = {name: weight.detach().cpu() for name, weight in lora_state_dict(model).items()}
    return {"state_dict": tensors, "in_context": in_context.to_metadata()}


def restore_adapter(checkpoint: Mapping[str, Any], model: LTX2, in_context: InContext) -> None:
    """Load the adapter of a checkpoint into a model.

    Args:
        checkpoint: What `idlora fit` wrote.
        model: With an adapter of the same shape.
        in_context: The recipe of this run.

    Raises:
        ValueError: If the checkpoint holds no adapter, or was trained with another recipe.
    """
    if "in_context" not in checkpoint:
        raise ValueError("checkpoint holds no ID-LoRA adapter; give ckpt_path a file that `idlora fit` wrote")
    stored = InContext.from_metadata(checkpoint["in_context"])
    if stored != in_context:
        raise ValueError(
            f"checkpoint was trained with {stored}, this run is configured with {in_context}: "
            "resume with the config.yaml of the run that wrote it"
        )
    load_lora_state_dict(model, checkpoint["state_dict"])
