"""Adapter files, read and written as they are: ours, the authors', ComfyUI's, diffusers' and peft's."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from idlora_pl.files import replacing
from idlora_pl.ltx2.adapter_format import PREFIXES, Adapter, AdapterStyle, LoRA, plain_names, targets_of
from idlora_pl.ltx2.adapter_metadata import (
    AI_LABEL,
    FOLDED,
    PEFT_ENTRY,
    UNKNOWN_CONSENT,
    peft_config,
    peft_entry,
    size_entries,
)
from idlora_pl.ltx2.differences import listed
from idlora_pl.ltx2.stored import as_floats

DIFFUSERS_NAME = "pytorch_lora_weights.safetensors"
"""The name under which diffusers looks for an adapter in a folder."""

_IN_FOLDER = (DIFFUSERS_NAME, "adapter_model.safetensors", "adapter.safetensors")


def read_adapter(path: str | Path) -> Adapter:
    """Read an adapter file without a base model; nothing is checked but the file itself.

    Args:
        path: safetensors in any spelling that `plain_names` knows, or a folder with one of diffusers' or peft's.

    Returns:
        The adapter, with the alpha that the file tells: in the header, in `.alpha` tensors, or the rank. Tensors of 8
        bits (fp8) are bfloat16, which is exact.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no safetensors file, holds anything but one LoRA, whole numbers, or is contradictory.
    """
    path = _located(Path(path))
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise ValueError(f"{path}: no safetensors file ({error}); pass one of save_adapter") from error
    tensors = {name: as_floats(path, name, tensor) for name, tensor in stored.items()}
    dtypes = tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in stored.values()}))
    try:
        return replace(_adapter(path, tensors, metadata), dtypes=dtypes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from error


def _adapter(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Adapter:
    """Name the tensors as we do, and settle rank and alpha."""
    state, alphas = plain_names(tensors)
    rank = _rank(state, alphas)
    told: dict[str, object] = {"the header": metadata.get("alpha")}
    told[PEFT_ENTRY] = peft_config(path, metadata).get("lora_alpha")
    if alphas:
        each = {name: alphas.get(name, float(rank)) for name in _linears(state)}
        alike = len(set(each.values())) == 1
        told["its .alpha tensors"] = next(iter(each.values())) if alike else rank
        if not alike:
            state = _scaled(state, {name: alpha / rank for name, alpha in each.items()})
    alpha = _agreed(told, rank)
    if metadata.get("alpha_in_weights") == FOLDED:
        state = _scaled(state, dict.fromkeys(_linears(state), rank / alpha))
    prefixes = sorted({name.split("transformer_blocks.")[0] for name in tensors})
    return Adapter(state, LoRA(rank, alpha, targets_of(state)), metadata, tuple(prefixes))


def write_adapter(path: str | Path, adapter: Adapter, *, style: AdapterStyle = "comfyui") -> Path:
    """Write an adapter to one file; a file of that name is replaced only when the new one is complete.

    ComfyUI and the authors' code read no alpha, so in their style alpha / rank is multiplied into lora_B; for a
    power of two that is exact, and `read_adapter` takes it out again. Diffusers takes alpha from the header. A file
    that says nothing about consent and AI gets `consent` "unknown" and our `ai_label`.

    Args:
        path: the file; without the suffix .safetensors, and in diffusers' style, the folder for
            `pytorch_lora_weights.safetensors`. Missing folders are made.
        adapter: what to write.
        style: whose names the tensors get.

    Returns:
        The file.

    Raises:
        ValueError: when alpha cannot be folded exactly.
    """
    path = Path(path)
    if style == "diffusers" and path.suffix != ".safetensors":
        path = path / DIFFUSERS_NAME
    check_style(adapter.lora, style)
    folded = style == "comfyui" and adapter.lora.scale != 1.0
    state = adapter.state
    if folded:
        state = _scaled(state, dict.fromkeys(adapter.linears, adapter.lora.scale))
    kept = {key: value for key, value in adapter.metadata.items() if key not in (PEFT_ENTRY, "alpha_in_weights")}
    header = {"consent": UNKNOWN_CONSENT, "ai_label": AI_LABEL, **kept, **size_entries(adapter.lora), "format": "pt"}
    header |= peft_entry(adapter.lora, style)
    header |= {"alpha_in_weights": FOLDED if folded else "separate"}
    tensors = {PREFIXES[style] + name: weight.detach().cpu().contiguous() for name, weight in state.items()}
    with replacing(path) as partial:
        save_file(tensors, partial, metadata=header)
        partial.chmod(0o644)  # safetensors writes for the owner only
    return path


def check_style(lora: LoRA, style: AdapterStyle) -> None:
    """Make sure that a style can hold an adapter's alpha.

    Raises:
        ValueError: when the style has no place for alpha and folding it into lora_B would round.
    """
    if style == "comfyui" and not _is_power_of_two(lora.scale):
        raise ValueError(
            f"alpha {lora.alpha:g} of rank {lora.rank} cannot be multiplied into the weights without rounding, and "
            "ComfyUI reads no alpha; use style diffusers, or an alpha that is the rank times a power of two"
        )


def _located(path: Path) -> Path:
    """Find the adapter file of a folder."""
    if path.is_dir():
        found = [path / name for name in _IN_FOLDER if (path / name).is_file()]
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none of " + ", ".join(_IN_FOLDER)
            raise FileNotFoundError(f"{path}: the folder holds {names}; pass the adapter file itself")
        return found[0]
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such adapter file; pass one written by save_adapter")
    return path


def _linears(state: Mapping[str, Tensor]) -> list[str]:
    return sorted({name.rsplit(".lora_", 1)[0] for name in state})


def _rank(state: Mapping[str, Tensor], alphas: Mapping[str, float]) -> int:
    """The one rank of a state; refuse halves of a pair and several ranks."""
    pairs = [(f"{name}.lora_A.weight", f"{name}.lora_B.weight") for name in sorted({*_linears(state), *alphas})]
    alone = [name for pair in pairs for name in pair if name not in state]
    if alone:
        raise ValueError(f"{len(alone)} tensors missing: {listed(alone)}; pass a complete adapter")
    if any(state[name].ndim != 2 for pair in pairs for name in pair):
        raise ValueError("lora_A and lora_B must be matrices; pass an adapter of linear layers")
    ranks = {state[a].shape[0] for a, _ in pairs} | {state[b].shape[1] for _, b in pairs}
    if len(ranks) > 1:
        raise ValueError(f"ranks {', '.join(map(str, sorted(ranks)))} in one file; pass an adapter of one rank")
    return ranks.pop()


def _agreed(told: Mapping[str, object], rank: int) -> float:
    """The alpha on which all who tell one agree; the rank when nobody does."""
    try:
        values = {source: float(str(value)) for source, value in told.items() if value is not None}
    except ValueError as error:
        raise ValueError(f"alpha is no number ({error}); correct the header") from error
    if len(set(values.values())) > 1:
        says = " and ".join(f"alpha {value:g} in {source}" for source, value in values.items())
        raise ValueError(f"{says} contradict each other; correct the file")
    alpha = next(iter(values.values()), float(rank))
    if not (math.isfinite(alpha) and alpha > 0):
        raise ValueError(f"alpha must be positive; got {alpha:g}; correct the file")
    return alpha


def _scaled(state: Mapping[str, Tensor], factors: Mapping[str, float]) -> dict[str, Tensor]:
    """Multiply lora_B of each linear by its factor; in float32 unless that is exact anyway."""
    scaled = dict(state)
    for linear, factor in factors.items():
        name = f"{linear}.lora_B.weight"
        scaled[name] = (state[name] if _is_power_of_two(factor) else state[name].float()) * factor
    return scaled


def _is_power_of_two(factor: float) -> bool:
    return math.frexp(factor)[0] == 0.5
