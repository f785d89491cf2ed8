"""Weights of the transformer: a diffusers folder, the authors' file, or a file with diffusers' names."""

from collections.abc import Mapping
from pathlib import Path

from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
from torch import Tensor

from idlora_pl.ltx2.differences import differences
from idlora_pl.ltx2.presets import Preset
from idlora_pl.ltx2.pretrained import check_config, full_config
from idlora_pl.ltx2.single_file import SingleFile
from idlora_pl.ltx2.stored import Stored, folder_tensors, read_tensors


def read_weights(path: Path, preset: Preset, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the weights of a base model.

    Args:
        path: a folder in diffusers' layout, or one safetensors file with the authors' names or with diffusers'.
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
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(
                f"{path}: no config.json and no transformer/; give a diffusers checkpoint folder, its transformer "
                "folder, or the authors' safetensors file"
            )
        config = LTX2VideoTransformer3DModel.load_config(path)
        check_config(path, config, LTX2VideoTransformer3DModel, preset.config, preset.name)
        tensors: Mapping[str, Stored] = folder_tensors(path)
    else:
        file = SingleFile.opened(path)
        if file.is_the_authors:
            own = full_config(LTX2VideoTransformer3DModel, preset.config)
            return file.state("transformer", expected, own, preset.name)
        tensors = file.tensors
    if wrong := differences(tensors, expected):
        raise ValueError(f"{path}: not the weights of preset {preset.name!r} ({wrong}); pass the preset that made them")
    return read_tensors(tensors, {name: weight.dtype for name, weight in expected.items()})
