"""The networks of the codecs, from a diffusers folder or from the authors' file, compared with a preset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video
from diffusers.models.autoencoders.autoencoder_kl_ltx2_audio import AutoencoderKLLTX2Audio
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE

from idlora_pl.ltx2.codec_presets import CodecPreset
from idlora_pl.ltx2.pretrained import Folder, check_config, load_component, read_config, require_components
from idlora_pl.ltx2.single_file import SingleFile, load_part

Networks = tuple[AutoencoderKLLTX2Video, AutoencoderKLLTX2Audio, LTX2Vocoder | LTX2VocoderWithBWE]
CODEC_PARTS = ("vae", "audio_vae", "vocoder")
"""Folders of a diffusers checkpoint that hold the codecs."""


def load_networks(path: Folder, preset: CodecPreset | None, name: str, dtype: torch.dtype | None) -> Networks:
    """Load video VAE, audio VAE and vocoder.

    Args:
        path: A diffusers checkpoint folder, or the authors' file.
        preset: What they should be; None takes what a folder's configs say.
        name: Of the preset, for messages.
        dtype: Of the weights; None is float32.

    Raises:
        ValueError: If a part is missing or is not that of the preset, or a file comes without a preset.
    """
    if not Path(path).is_file():
        return _from_folder(path, preset, name, dtype)
    if preset is None:
        raise ValueError(f"{path}: a single file does not say how to build its codecs; pass preset, such as 'ltx2-19b'")
    return _from_file(SingleFile.opened(Path(path)), preset, name, dtype)


def _from_folder(folder: Folder, preset: CodecPreset | None, name: str, dtype: torch.dtype | None) -> Networks:
    require_components(folder, CODEC_PARTS)
    if preset is not None:
        for part, (cls, arguments) in preset.parts.items():
            check_config(Path(folder) / part, read_config(folder, part), cls, arguments, name)
    with_bwe = read_config(folder, "vocoder").get("_class_name") == "LTX2VocoderWithBWE"
    return (
        load_component(AutoencoderKLLTX2Video, folder, "vae", dtype),
        load_component(AutoencoderKLLTX2Audio, folder, "audio_vae", dtype),
        load_component(LTX2VocoderWithBWE if with_bwe else LTX2Vocoder, folder, "vocoder", dtype),
    )


def _from_file(file: SingleFile, preset: CodecPreset, name: str, dtype: torch.dtype | None) -> Networks:
    networks: dict[str, Any] = {}
    for part, (cls, arguments) in preset.parts.items():
        # the vocoder computes buffers that no file holds, so it cannot start on "meta"
        with torch.device("cpu" if part == "vocoder" else "meta"), torch.random.fork_rng(devices=[]):
            networks[part] = cls(**arguments)
        load_part(file, part, networks[part], name, dtype)
    return networks["vae"], networks["audio_vae"], networks["vocoder"]
