"""What an adapter file may hold: the authors' key names, and checks that a file fits a base model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from idlora_pl.ltx2.transformer import LTX2

_AUDIO_ATTENTIONS = ("audio_attn1", "audio_attn2", "audio_to_video_attn", "video_to_audio_attn")
_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")

# The 18 linears of a block that the authors train: all that read or write audio, but no norm and no gate.
PAPER_TARGETS: tuple[str, ...] = (
    *(f"{attention}.{projection}" for attention in _AUDIO_ATTENTIONS for projection in _PROJECTIONS),
    "audio_ff.net.0.proj",
    "audio_ff.net.2",
)

# Key prefix of the authors' files, which is ComfyUI's.
PREFIX = "diffusion_model."
_KNOWN_PREFIXES = (PREFIX, "transformer.")
_KEY = re.compile(r"transformer_blocks\.(\d+)\.(.+)\.lora_([AB])\.weight")


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


def read_adapter(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read an adapter file.

    Args:
        path: safetensors with the prefix diffusion_model. (ours, ComfyUI), transformer. (diffusers) or none.

    Returns:
        The tensors by name without prefix, and the header entries.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no safetensors file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such adapter file; pass one written by save_adapter")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise ValueError(f"{path}: no safetensors file ({error}); pass one of save_adapter") from error
    return {_without_prefix(name): weight for name, weight in tensors.items()}, metadata


def _without_prefix(name: str) -> str:
    for prefix in _KNOWN_PREFIXES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def check_adapter(path: Path, model: LTX2, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> LoRA:
    """Make sure that an adapter file belongs to a base model and was trained.

    Args:
        path: named in the errors.
        model: the base model.
        state: tensors by name without prefix.
        metadata: header entries of the file; files of other programs have none.

    Returns:
        Rank, alpha (that of the header, else the rank) and targets of the file.

    Raises:
        ValueError: when it belongs to another base model, is incomplete, or every lora_B is zero.
    """
    base_model = metadata.get("base_model", model.preset.name)
    if base_model != model.preset.name:
        raise ValueError(
            f"{path}: adapter of base model {base_model!r}, this model is {model.preset.name!r}; "
            f"load it into LTX2 {base_model!r}"
        )
    lora = _describe(path, state, metadata, len(model.transformer.transformer_blocks))
    _check_shapes(path, model, state, lora.rank)
    if not any(weight.any() for name, weight in state.items() if ".lora_B." in name):
        raise ValueError(f"{path}: every lora_B is zero: the adapter was never trained; pass a trained one")
    return lora


def _describe(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str], n_blocks: int) -> LoRA:
    """Derive rank, alpha and targets of the file; refuse foreign and missing names."""
    matches = {name: _KEY.fullmatch(name) for name in state}
    foreign = sorted(name for name, match in matches.items() if match is None)
    if foreign or not state:
        raise ValueError(
            f"{path}: {len(foreign)} of {len(state)} names are no LoRA weights of LTX-2 {foreign[:1]}; "
            "pass a file with transformer_blocks.<i>.<linear>.lora_A.weight and lora_B.weight"
        )
    targets = tuple(sorted({match[2] for match in matches.values() if match}))
    needed = {
        f"transformer_blocks.{block}.{target}.lora_{side}.weight"
        for block in range(n_blocks)
        for target in targets
        for side in "AB"
    }
    missing, unexpected = sorted(needed - state.keys()), sorted(state.keys() - needed)
    if missing or unexpected:
        raise ValueError(
            f"{path}: {len(missing)} tensors missing {missing[:1]}, {len(unexpected)} unexpected "
            f"{unexpected[:1]} for a base model of {n_blocks} blocks; pass a complete adapter of it"
        )
    rank = next(weight.shape[0] for name, weight in state.items() if ".lora_A." in name)
    return LoRA(rank, float(metadata.get("alpha", rank)), targets)


def _check_shapes(path: Path, model: LTX2, state: Mapping[str, Tensor], rank: int) -> None:
    """Refuse tensors that do not fit the linears of the base model."""
    modules = dict(model.transformer.named_modules())
    for name, weight in state.items():
        linear_name, side = name.removesuffix(".weight").rsplit(".lora_", 1)
        if linear_name not in modules:
            raise ValueError(
                f"{path}: {model.preset.name} has no linear {linear_name}; pass an adapter of this base model"
            )
        linear = modules[linear_name]
        needed = (rank, linear.in_features) if side == "A" else (linear.out_features, rank)
        if weight.shape != needed:
            raise ValueError(
                f"{path}: {name} is {tuple(weight.shape)}, {model.preset.name} at rank {rank} needs "
                f"{needed}; pass an adapter of this base model with one rank"
            )
