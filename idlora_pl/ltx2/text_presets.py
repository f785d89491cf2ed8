"""Sizes of the text connectors of each base model, as arguments of diffusers' class; the rest are its defaults."""

from collections.abc import Mapping

from idlora_pl.ltx2.presets import preset_named

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
