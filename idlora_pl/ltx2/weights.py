"""Weights of the transformer: read a diffusers folder or one safetensors file; refuse another preset's."""

from collections.abc import Mapping
from pathlib import Path

from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from idlora_pl.ltx2.presets import Preset


def read_weights(path: Path, preset: Preset, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the weights of a base model.

    Args:
        path: a folder in diffusers' layout, or one safetensors file with diffusers' names.
        preset: the base model that they should belong to.
        expected: a state dict with the needed names, shapes and dtypes; its tensors may lie on "meta".

    Returns:
        The tensors by name, in the expected dtypes.

    Raises:
        FileNotFoundError: when there is nothing at the path.
        ValueError: when settings, names or shapes are not those of the preset.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder; pass the weights of preset {preset.name!r}")
    weights = _read_folder(path, preset) if path.is_dir() else _read_file(path)
    _check(path, preset, weights, expected)
    return {name: weight.to(expected[name].dtype) for name, weight in weights.items()}


def _read_folder(path: Path, preset: Preset) -> dict[str, Tensor]:
    config = LTX2VideoTransformer3DModel.load_config(path)
    for key, needed in preset.config.items():
        found = config.get(key, needed)
        if found != (list(needed) if isinstance(needed, tuple) else needed):
            raise ValueError(
                f"{path}: config.json has {key} = {found!r}, preset {preset.name!r} needs {needed!r}; "
                "pass the preset that made the folder"
            )
    return LTX2VideoTransformer3DModel.from_pretrained(path, torch_dtype=preset.dtype).state_dict()


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: no safetensors file ({error}); pass weights of the preset") from error


def _check(path: Path, preset: Preset, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    missing, unexpected = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or unexpected:
        raise ValueError(
            f"{path}: not the weights of preset {preset.name!r}; {len(missing)} names missing {missing[:1]}, "
            f"{len(unexpected)} unexpected {unexpected[:1]}; pass the preset that made them"
        )
    for name, weight in weights.items():
        if weight.shape != expected[name].shape:
            raise ValueError(
                f"{path}: {name} is {tuple(weight.shape)}, preset {preset.name!r} needs "
                f"{tuple(expected[name].shape)}; pass the preset that made them"
            )
