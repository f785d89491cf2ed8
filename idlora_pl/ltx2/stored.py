"""Tensors of safetensors files: names and shapes at once, weights one by one when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from idlora_pl.files import read_json

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)
_WEIGHTS = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class Stored:
    """A tensor that has not been read.

    Attributes:
        path: the file that holds it.
        name: its name there.
        shape: its shape.
    """

    path: Path
    name: str
    shape: tuple[int, ...]


def read_header(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """Read the header of a file: its tensors by name, and its metadata.

    Raises:
        ValueError: when it is no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            tensors = {name: Stored(path, name, tuple(file.get_slice(name).get_shape())) for name in names}
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: no safetensors file ({error}); pass weights of the preset") from error


def as_floats(path: Path, name: str, tensor: Tensor) -> Tensor:
    """Return a LoRA's tensor in a dtype to compute with: of 8 bits it becomes bfloat16, which holds it exactly.

    Raises:
        ValueError: when it holds no numbers by themselves, as quantised weights do.
    """
    if tensor.dtype in _EIGHT_BITS:
        return tensor.to(torch.bfloat16)
    if tensor.dtype not in _FLOATS:
        stored = str(tensor.dtype).removeprefix("torch.")
        raise ValueError(f"{path}: {name} is stored as {stored}; pass a LoRA in float32, float16, bfloat16 or fp8")
    return tensor


def folder_tensors(folder: Path) -> dict[str, Stored]:
    """Find the tensors of a diffusers model folder, in one file or in the files that its index names.

    Raises:
        ValueError: when the weights, or one of their files, are missing.
    """
    index = folder / f"{_WEIGHTS}.index.json"
    files: Iterable[str] = [_WEIGHTS]
    if index.is_file():
        files = sorted(set(read_json(index)["weight_map"].values()))
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder}: {', '.join(missing)} is missing; copy the folder again")
    return {name: tensor for file in files for name, tensor in read_header(folder / file)[0].items()}


def read_tensors(sources: Mapping[str, Stored], dtypes: Mapping[str, torch.dtype]) -> dict[str, Tensor]:
    """Read tensors one by one; those of the stored dtype stay mapped from the file instead of being copied.

    Args:
        sources: what to read, by the name that it gets.
        dtypes: what to read it as, by the same name.
    """
    found: dict[str, Tensor] = {}
    for path in sorted({source.path for source in sources.values()}):
        with safe_open(path, framework="pt") as file:
            for name, source in sources.items():
                if source.path == path:
                    found[name] = file.get_tensor(source.name).to(dtypes[name])
    return found
