"""The base models by name: the settings of diffusers' classes, and the conventions that differ between the models.

Settings are those of the transformer and the text connectors; what is not named is diffusers' default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from idlora_pl.method.flow import NoiseLevels
from idlora_pl.method.positions import AudioGrid, Geometry, VideoGrid

PresetName = Literal["nano", "smoke", "ltx2-19b", "ltx2.3-22b"]
DEFAULT_BASE: PresetName = "ltx2-19b"
"""The paper's."""


@dataclass(frozen=True)
class Preset:
    """One base model.

    Attributes:
        name: how users and adapter files call it.
        config: keyword arguments of diffusers' LTX2VideoTransformer3DModel.
        geometry: its position grids.
        use_cross_timestep: whether audio-video cross attention is modulated by the other modality's sigma.
        skip: what a perturbed block's self-attention is replaced with: nothing ("drop", LTX-2 19B) or its
            value projection ("value", LTX-2.3).
        stg_block: block that spatio-temporal guidance perturbs.
        noise_levels: how the noise levels of its training are distributed.
        dtype: dtype in which weights are loaded.
        device: where random weights are made; "meta" for models that are only shapes until they are loaded.
    """

    name: str
    config: Mapping[str, object]
    geometry: Geometry
    use_cross_timestep: bool = False
    skip: Literal["drop", "value"] = "drop"
    stg_block: int = 29
    noise_levels: NoiseLevels = "logit_normal"
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @property
    def text_channels(self) -> tuple[int, int]:
        """Width of the video and of the audio text context."""
        if self.config["use_prompt_embeddings"]:
            return _width(self.config, "caption_channels"), _width(self.config, "caption_channels")
        return _width(self.config, "cross_attention_dim"), _width(self.config, "audio_cross_attention_dim")

    @property
    def token_channels(self) -> tuple[int, int]:
        """Width of a video and of an audio token."""
        return _width(self.config, "in_channels"), _width(self.config, "audio_in_channels")


def _width(config: Mapping[str, object], key: str) -> int:
    value = config[key]
    if not isinstance(value, int):
        raise TypeError(f"preset config '{key}' must be an int; got {value!r}")
    return value


_LTX2 = {
    "num_attention_heads": 32,
    "attention_head_dim": 128,
    "cross_attention_dim": 4096,
    "audio_num_attention_heads": 32,
    "audio_attention_head_dim": 64,
    "audio_cross_attention_dim": 2048,
    "num_layers": 48,
    "caption_channels": 3840,
    "rope_type": "split",
    "rope_double_precision": True,
    "timestep_scale_multiplier": 1000,
    "cross_attn_timestep_scale_multiplier": 1000,
    "causal_offset": 1,
    "norm_eps": 1e-6,
    "pos_embed_max_pos": 20,
    "audio_pos_embed_max_pos": 20,
    "use_prompt_embeddings": True,
    "perturbed_attn": False,
    "in_channels": 128,
    "audio_in_channels": 128,
}

_LTX23 = {
    **_LTX2,
    "gated_attn": True,
    "cross_attn_mod": True,
    "audio_gated_attn": True,
    "audio_cross_attn_mod": True,
    "use_prompt_embeddings": False,
    "perturbed_attn": True,
}

# 121,024 parameters: the size of the golden models of tests/parity.
_SMOKE = {
    **_LTX2,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "cross_attention_dim": 32,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 8,
    "audio_cross_attention_dim": 16,
    "num_layers": 2,
    "caption_channels": 24,
}

# Short clips need slower rotary frequencies than 20 s ones: theta 100 over 4 s.
_NANO = {
    **_LTX2,
    "in_channels": 32,
    "out_channels": 32,
    "audio_in_channels": 64,
    "audio_out_channels": 64,
    "num_attention_heads": 4,
    "attention_head_dim": 24,
    "cross_attention_dim": 96,
    "audio_num_attention_heads": 4,
    "audio_attention_head_dim": 32,
    "audio_cross_attention_dim": 128,
    "num_layers": 4,
    "caption_channels": 32,
    "rope_theta": 100.0,
    "pos_embed_max_pos": 4,
    "audio_pos_embed_max_pos": 4,
    "base_height": 64,
    "base_width": 64,
    "vae_scale_factors": (4, 32, 32),
}

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("nano", _NANO, Geometry(VideoGrid(25.0, 4, 32), AudioGrid(16000, 160, 4)), stg_block=1),
        Preset("smoke", _SMOKE, Geometry(), stg_block=1),
        Preset("ltx2-19b", _LTX2, Geometry(), dtype=torch.bfloat16, device="meta"),
        Preset(
            "ltx2.3-22b",
            _LTX23,
            Geometry(),
            use_cross_timestep=True,
            skip="value",
            noise_levels="stretched",
            dtype=torch.bfloat16,
            device="meta",
        ),
    )
}


def preset_named(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ValueError: when there is none.

    Example:
        >>> preset_named("smoke").text_channels
        (24, 24)
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}; got {name!r}")
    return PRESETS[name]


ConnectorPreset = Mapping[str, object]
"""Arguments of `LTX2TextConnectors`."""

# The language model of the smoke preset has two layers, so three hidden states.
SMOKE_HIDDEN_STATES = 3


def smoke_connector_preset(width: int, n_hidden_states: int) -> ConnectorPreset:
    """Connectors in the 19B layout: two blocks of `width` channels, four registers."""
    stream = {"num_attention_heads": width // 8, "attention_head_dim": 8, "num_learnable_registers": 4}
    sizes = {f"{name}_connector_{key}": value for name in ("video", "audio") for key, value in stream.items()}
    return {"caption_channels": width, "text_proj_in_factor": n_hidden_states, "rope_type": "split", **sizes}


CONNECTOR_PRESETS: dict[str, ConnectorPreset] = {
    "smoke": smoke_connector_preset(preset_named("smoke").text_channels[0], SMOKE_HIDDEN_STATES),
    # 3840 channels of 49 hidden states of Gemma 3 12B, one projection for both modalities
    "ltx2-19b": {"rope_type": "split"},
    # one projection a modality, eight gated blocks of the width of its stream
    "ltx2.3-22b": {
        "rope_type": "split",
        "per_modality_projections": True,
        "proj_bias": True,
        "video_connector_num_attention_heads": 32,
        "video_connector_num_layers": 8,
        "video_gated_attn": True,
        "audio_connector_num_attention_heads": 32,
        "audio_connector_attention_head_dim": 64,
        "audio_connector_num_layers": 8,
        "audio_gated_attn": True,
    },
}


def connector_preset_named(name: str) -> ConnectorPreset:
    """The connectors of a base model.

    Raises:
        ValueError: when there are none of that name.
    """
    if name not in CONNECTOR_PRESETS:
        raise ValueError(f"connectors preset must be one of {', '.join(CONNECTOR_PRESETS)}; got {name!r}")
    return CONNECTOR_PRESETS[name]
