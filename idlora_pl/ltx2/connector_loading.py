"""The text connectors, from a diffusers folder or from the authors' file, compared with a preset."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors

from idlora_pl.ltx2.pretrained import Folder, check_config, load_component, read_config
from idlora_pl.ltx2.single_file import SingleFile, load_part
from idlora_pl.ltx2.text_presets import ConnectorPreset, connector_preset_named


def load_connectors(
    path: Folder, preset: str | ConnectorPreset | None, dtype: torch.dtype | None
) -> LTX2TextConnectors:
    """Load the text connectors.

    Args:
        path: A diffusers checkpoint folder with `connectors/`, or the authors' file.
        preset: What they should be; None takes what a folder's config says.
        dtype: Of the weights; None is float32.

    Raises:
        ValueError: If they are missing or not those of the preset, or a file comes without a preset.
    """
    name = preset if isinstance(preset, str) else "given"
    wanted = connector_preset_named(preset) if isinstance(preset, str) else preset
    if not Path(path).is_file():
        if wanted is not None:
            place = Path(path) / "connectors"
            check_config(place, read_config(path, "connectors"), LTX2TextConnectors, wanted, name)
        return load_component(LTX2TextConnectors, path, "connectors", dtype)
    if wanted is None:
        raise ValueError(f"{path}: a single file does not say how to build its connectors; pass preset")
    with torch.device("meta"):
        connectors = LTX2TextConnectors(**wanted)
    load_part(SingleFile.opened(Path(path)), "connectors", connectors, name, dtype)
    return connectors
