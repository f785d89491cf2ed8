"""What an adapter is: its size, the linears it changes, and the names of its tensors in several programs.

And whether it belongs to a base model, and changes anything.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from idlora_pl.ltx2.checkpoint import differences, listed
from idlora_pl.ltx2.transformer import LTX2

_AUDIO_ATTENTIONS = ("audio_attn1", "audio_attn2", "audio_to_video_attn", "video_to_audio_attn")
_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")

# The 18 linears of a block that the authors train: all that read or write audio, but no norm and no gate.
PAPER_TARGETS: tuple[str, ...] = (
    *(f"{attention}.{projection}" for attention in _AUDIO_ATTENTIONS for projection in _PROJECTIONS),
    "audio_ff.net.0.proj",
    "audio_ff.net.2",
)

AdapterStyle = Literal["comfyui", "diffusers"]
"""Whose spelling a file has: that of ComfyUI and the authors, or that of diffusers' pipelines."""

PREFIXES: dict[AdapterStyle, str] = {"comfyui": "diffusion_model.", "diffusers": "transformer."}
PREFIX = PREFIXES["comfyui"]

# In the order in which they may stand before each other.
_KNOWN_PREFIXES = ("base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer.")
# lora_down and lora_up are other trainers' names of lora_A and lora_B; peft may put its adapter's name behind them.
_KEY = re.compile(
    r"(?P<linear>transformer_blocks\.\d+\.[\w.]+?)"
    r"\.(?:lora_(?P<side>A|B|down|up)(?:\.(?!weight$)[^.]+)?\.weight|(?P<alpha>alpha))"
)
_SIDES = {"A": "A", "down": "A", "B": "B", "up": "B"}
_BLOCK = re.compile(r"transformer_blocks\.(\d+)\.(.+)")


@dataclass(frozen=True)
class LoRA:
    """Size and place of an adapter.

    Attributes:
        rank: inner width of the low-rank updates.
        alpha: the update is scaled by alpha / rank; None means alpha = rank.
        targets: name endings of the linears inside each block.
    """

    rank: int = 128
    alpha: float | None = None
    targets: tuple[str, ...] = PAPER_TARGETS

    @property
    def scale(self) -> float:
        """What the product of the two matrices is multiplied by."""
        return 1.0 if self.alpha is None else self.alpha / self.rank


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter as a file tells it.

    Attributes:
        state: `transformer_blocks.<i>.<linear>.lora_A.weight` (rank, in) and `.lora_B.weight` (out, rank).
        lora: its size; alpha is never None here.
        metadata: header entries of the file; files of other programs may have none.
        prefixes: what stood before the names in the file.
        dtypes: in which its tensors are stored in the file; none for an adapter that was not read.
    """

    state: Mapping[str, Tensor]
    lora: LoRA
    metadata: Mapping[str, str]
    prefixes: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()

    @property
    def linears(self) -> list[str]:
        """Names of the linears that have an update, sorted."""
        return sorted(name.removesuffix(".lora_A.weight") for name in self.state if name.endswith(".lora_A.weight"))

    @property
    def n_blocks(self) -> int:
        """One more than the highest block with an update."""
        return 1 + max(int(name.split(".")[1]) for name in self.linears)

    @property
    def idle(self) -> list[str]:
        """Linears whose update is zero because one of its matrices is."""
        sides = {name: [self.state[f"{name}.lora_{side}.weight"] for side in "AB"] for name in self.linears}
        return [name for name, pair in sides.items() if not all(bool(weight.any()) for weight in pair)]


def plain_names(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Give tensors of any known spelling our names.

    Args:
        tensors: `diffusion_model.` (ours, ComfyUI), `transformer.` (diffusers), `base_model.model.` (peft) or no
            prefix, also mixed; lora_A and lora_B or lora_down and lora_up, and `.alpha` scalars.

    Returns:
        The tensors, named as in `Adapter.state`, and the alphas by linear.

    Raises:
        ValueError: when a name is no part of a LoRA of LTX-2, or two names mean the same tensor.
    """
    matches = {name: _KEY.fullmatch(_without_prefix(name)) for name in tensors}
    foreign = [name for name, match in matches.items() if match is None]
    if foreign or not tensors:
        raise ValueError(
            f"{len(foreign)} of {len(tensors)} names are no LoRA weights of LTX-2: {listed(foreign)}; pass a file "
            "with transformer_blocks.<i>.<linear>.lora_A.weight and lora_B.weight"
        )
    state: dict[str, Tensor] = {}
    alphas: dict[str, float] = {}
    sources: dict[str, str] = {}
    for name, match in matches.items():
        assert match is not None
        linear = match["linear"]
        plain = f"{linear}.alpha" if match["alpha"] else f"{linear}.lora_{_SIDES[match['side']]}.weight"
        if plain in sources:
            raise ValueError(f"{sources[plain]} and {name} are the same tensor; pass a file with one adapter")
        sources[plain] = name
        if match["alpha"]:
            alphas[linear] = float(tensors[name])
        else:
            state[plain] = tensors[name]
    return state, alphas


def _without_prefix(name: str) -> str:
    for prefix in _KNOWN_PREFIXES:
        name = name.removeprefix(prefix)
    return name


def targets_of(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Name endings of the linears of a state, sorted."""
    found = {name.rsplit(".lora_", 1)[0] for name in state}
    return tuple(sorted({match[2] for name in found if (match := _BLOCK.fullmatch(name))}))


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
