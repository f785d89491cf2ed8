"""Adapter files, read and written as they are: ours, the authors', ComfyUI's, diffusers' and peft's.

The header of a file is what it says about itself; other programs say other things in theirs.
"""

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import idlora_pl
from idlora_pl.files import parsed_json, read_text, replacing
from idlora_pl.ltx2.adapter_format import PREFIXES, Adapter, AdapterStyle, LoRA, plain_names, targets_of
from idlora_pl.ltx2.checkpoint import as_floats, listed

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


AI_LABEL = "AI-generated: clips made with this adapter show synthetic faces, voices and words; label them as such."
"""Every adapter file carries this as `ai_label`."""

UNKNOWN_CONSENT = "unknown"
"""`consent` of a file whose training data told nothing about it."""

PEFT_ENTRY = "lora_adapter_metadata"
"""Header entry in which diffusers keeps the peft configuration, as JSON."""

FOLDED = "folded"
_UNSUPPORTED = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias")
_ROOT = Path(idlora_pl.__file__).parents[1]


def own_entries(base_model: str, lora: LoRA, metadata: Mapping[str, str]) -> dict[str, str]:
    """Complete what an adapter file says about itself.

    Args:
        base_model: preset name.
        lora: its size.
        metadata: entries of the caller, such as the recipe; base model, rank, alpha and targets are ours.

    Returns:
        All entries. What the caller did not say is added: versions, commit, `consent` ("unknown"), `ai_label`.
    """
    versions = {f"version.{name}": version(name) for name in ("torch", "diffusers", "peft")}
    versions |= {"version.idlora_pl": idlora_pl.__version__, "version.python": platform.python_version()}
    commit = {"git_commit": found} if (found := git_commit()) else {}
    added = versions | commit | {"consent": UNKNOWN_CONSENT, "ai_label": AI_LABEL}
    return added | dict(metadata) | {"base_model": base_model} | size_entries(lora)


def size_entries(lora: LoRA) -> dict[str, str]:
    """Rank, alpha and targets as header entries."""
    alpha = float(lora.rank if lora.alpha is None else lora.alpha)
    return {"rank": str(lora.rank), "alpha": str(alpha), "targets": ",".join(lora.targets)}


def peft_entry(lora: LoRA, style: AdapterStyle) -> dict[str, str]:
    """The entry from which diffusers takes alpha; ComfyUI's style has none, because ComfyUI reads no header.

    The fields are those that every peft since 0.9 knows, as `LoraConfig` refuses what it does not know.
    """
    if style == "comfyui":
        return {}
    config: dict[str, object] = {
        "r": lora.rank,
        "lora_alpha": lora.rank if lora.alpha is None else lora.alpha,
        "target_modules": sorted(lora.targets),
        "lora_dropout": 0.0,
        "bias": "none",
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_dora": False,
        "use_rslora": False,
    }
    packed = {f"transformer.{key}": value for key, value in config.items()}
    return {PEFT_ENTRY: json.dumps(packed, indent=2, sort_keys=True)}


def peft_config(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The peft configuration that comes with a file: in its header (diffusers) or beside it (peft); else {}.

    Raises:
        ValueError: when it is no JSON object, or asks for more than plain LoRA of one rank.
    """
    beside = path.with_name("adapter_config.json")
    if PEFT_ENTRY in metadata:
        source, config = f"{path}: {PEFT_ENTRY}", header_config(path, metadata)
    elif path.name == "adapter_model.safetensors" and beside.is_file():
        source, config = str(beside), _config_of(read_text(beside), str(beside))
    else:
        return {}
    for name in _UNSUPPORTED:
        if config.get(name):
            raise ValueError(
                f"{source} has {name} = {config[name]!r}; only plain LoRA of one rank and one alpha can be loaded"
            )
    return config


def header_config(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The peft configuration in the header of a file, as diffusers writes it, whatever it asks for; else {}.

    Raises:
        ValueError: when it is no JSON object.
    """
    return _config_of(metadata.get(PEFT_ENTRY, "{}"), f"{path}: {PEFT_ENTRY}")


def _config_of(text: str, source: str) -> dict[str, Any]:
    packed = parsed_json(text, source)
    if not isinstance(packed, dict):
        raise ValueError(f"{source} holds a {type(packed).__name__}, not an object; copy the file again")
    return {key.removeprefix("transformer."): value for key, value in packed.items()}


@cache
def git_commit() -> str | None:
    """The commit of the checkout that runs, read from `.git` once; None for an installed package."""
    place = _ROOT / ".git"
    if not (_ROOT / "pyproject.toml").is_file() or not place.exists():
        return None
    if place.is_file():  # a worktree: "gitdir: <folder>"
        place = (_ROOT / place.read_text().removeprefix("gitdir:").strip()).resolve()
    head = place / "HEAD"
    if not head.is_file():
        return None
    reference = head.read_text().strip()
    if not reference.startswith("ref: "):
        return reference
    name = reference.removeprefix("ref: ")
    shared = place / "commondir"
    common = (place / shared.read_text().strip()).resolve() if shared.is_file() else place
    for folder in (place, common):
        if (folder / name).is_file():
            return (folder / name).read_text().strip()
    packed = common / "packed-refs"
    lines = packed.read_text().splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {name}")), None)
