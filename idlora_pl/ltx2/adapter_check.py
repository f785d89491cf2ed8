"""Whether an adapter belongs to a base model, and whether it changes anything."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from idlora_pl.ltx2.adapter_format import Adapter
from idlora_pl.ltx2.differences import differences, listed
from idlora_pl.ltx2.transformer import LTX2


class _Shape:
    """The shape that a tensor should have."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape


def misfit(adapter: Adapter, model: LTX2) -> str:
    """Say how an adapter's tensors differ from what its targets on a base model need; "" when they fit.

    A target that the model does not have in any block makes its tensors unexpected.
    """
    return differences(adapter.state, _needed(adapter, model))


def _needed(adapter: Adapter, model: LTX2) -> Mapping[str, _Shape]:
    modules = dict(model.transformer.named_modules())
    needed: dict[str, _Shape] = {}
    for block in range(len(model.transformer.transformer_blocks)):
        for target in adapter.lora.targets:
            name = f"transformer_blocks.{block}.{target}"
            linear = modules.get(name)
            if linear is not None and hasattr(linear, "in_features"):
                needed[f"{name}.lora_A.weight"] = _Shape(adapter.lora.rank, int(linear.in_features))
                needed[f"{name}.lora_B.weight"] = _Shape(int(linear.out_features), adapter.lora.rank)
    return needed


def check_adapter(path: Path, adapter: Adapter, model: LTX2) -> None:
    """Make sure that an adapter belongs to a base model and was trained; warn when part of it does nothing.

    Args:
        path: named in the messages.
        adapter: the file.
        model: the base model.

    Raises:
        ValueError: when it belongs to another base model, is incomplete, holds nan or infinity, or changes nothing.
    """
    name = model.preset.name
    base_model = adapter.metadata.get("base_model", name)
    if base_model != name:
        raise ValueError(
            f"{path}: adapter of base model {base_model!r}, this model is {name!r}; load it into LTX2 {base_model!r}"
        )
    if wrong := misfit(adapter, model):
        raise ValueError(
            f"{path}: no complete adapter of {name} at rank {adapter.lora.rank} ({wrong}); "
            "pass one that was trained on this base model"
        )
    broken = [name for name, weight in adapter.state.items() if not torch.isfinite(weight).all()]
    if broken:
        raise ValueError(f"{path}: {len(broken)} tensors hold nan or infinity: {listed(broken)}; pass another adapter")
    idle, n_linears = adapter.idle, len(adapter.linears)
    if len(idle) == n_linears:
        raise ValueError(
            f"{path}: changes nothing: each of its {n_linears} updates is zero, the adapter was never trained; "
            "pass a trained one"
        )
    if idle:
        warnings.warn(f"{path}: {len(idle)} of {n_linears} updates are zero: {listed(idle)}", stacklevel=3)
