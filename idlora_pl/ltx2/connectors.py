"""Text features of LTX-2 and its frozen connectors, around diffusers' `LTX2TextConnectors`.

`LTX2TextConnectors.forward` does both steps at once; here they are apart, because shards store what lies
between them.

Letters: B prompts, L text tokens (left-padded), D width of the language model, K its hidden states
(layers + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch
from diffusers.pipelines.ltx2.connectors import (
    LTX2TextConnectors,
    per_layer_masked_mean_norm,
    per_token_rms_norm,
)
from torch import Tensor

from idlora_pl.method.tokens import TextContext, TextFeatures


def normalise_layers(hidden_states: Tensor, mask: Tensor) -> Tensor:
    """Normalise per prompt and layer as LTX-2 19B does: 8 (x - mean) / (max - min + 1e-6).

    Mean, maximum and minimum are taken over tokens and width.

    Args:
        hidden_states: (B, L, D, K).
        mask: (B, L) bool, True = token; tokens stand at the end.

    Returns:
        (B, L, D*K), layer index fastest, zero on padding.
    """
    return per_layer_masked_mean_norm(hidden_states, mask.sum(1), hidden_states.device, padding_side="left")


def normalise_tokens(hidden_states: Tensor, mask: Tensor) -> Tensor:
    """Normalise per token and layer as LTX-2.3 does: x / sqrt(mean of x^2 over width + 1e-6)."""
    return per_token_rms_norm(hidden_states).flatten(2).masked_fill(~mask[:, :, None], 0.0)


def project_features(connectors: LTX2TextConnectors, hidden_states: Tensor, mask: Tensor) -> TextFeatures:
    """Turn all hidden states of the language model into text features, as the layout of `connectors` says.

    Args:
        connectors: Whose projections are used; one for both modalities (19B) or one each (2.3).
        hidden_states: (B, L, D, K).
        mask: (B, L) bool, True = token.

    Returns:
        Features before the connectors: (B, L, D) twice (19B), or of the two hidden widths (2.3).
    """
    config = connectors.config
    hidden_states = hidden_states.to(connectors.dtype)
    if not config["per_modality_projections"]:
        features = connectors.text_proj_in(normalise_layers(hidden_states, mask))
        return TextFeatures(features, features.clone(), mask)
    normed = normalise_tokens(hidden_states, mask)
    return TextFeatures(
        connectors.video_text_proj_in(normed * sqrt(config["video_hidden_dim"] / config["caption_channels"])),
        connectors.audio_text_proj_in(normed * sqrt(config["audio_hidden_dim"] / config["caption_channels"])),
        mask,
    )


def connect_features(connectors: LTX2TextConnectors, features: TextFeatures) -> TextContext:
    """Run the two connectors: tokens move to the front, registers fill the rest, so nothing is masked."""
    dtype = connectors.dtype
    bias = (features.mask.to(dtype) - 1)[:, None, None] * torch.finfo(dtype).max
    video, _ = connectors.video_connector(features.video.to(dtype), bias)
    audio, _ = connectors.audio_connector(features.audio.to(dtype), bias)
    return TextContext(video, audio)


@dataclass(frozen=True)
class ConnectorSizes:
    """Sizes of the two connectors and of the projections in front of them.

    Attributes:
        width: width D of the language model.
        n_hidden_states: its hidden states K.
        video: (heads, width of a head) of the video connector.
        audio: (heads, width of a head) of the audio connector.
        layers: blocks of a connector.
        registers: learnable registers of a connector.
        per_modality: the 2.3 layout: one biased projection a modality, gated attention. Otherwise the 19B layout.
        rope_base_seq_len: largest position of the rotary embedding.
    """

    width: int
    n_hidden_states: int
    video: tuple[int, int]
    audio: tuple[int, int]
    layers: int = 2
    registers: int = 4
    per_modality: bool = False
    rope_base_seq_len: int = 4096


def build_connectors(sizes: ConnectorSizes, *, gated: bool | None = None) -> LTX2TextConnectors:
    """Build random connectors.

    Args:
        sizes: See `ConnectorSizes`.
        gated: Whether attention is gated; None takes the layout's.
    """
    settings: dict[str, Any] = {}
    for stream, (heads, head_width) in {"video": sizes.video, "audio": sizes.audio}.items():
        settings |= {
            f"{stream}_connector_num_attention_heads": heads,
            f"{stream}_connector_attention_head_dim": head_width,
            f"{stream}_connector_num_layers": sizes.layers,
            f"{stream}_connector_num_learnable_registers": sizes.registers,
            f"{stream}_gated_attn": sizes.per_modality if gated is None else gated,
            f"{stream}_hidden_dim": heads * head_width,
        }
    return LTX2TextConnectors(
        caption_channels=sizes.width,
        text_proj_in_factor=sizes.n_hidden_states,
        connector_rope_base_seq_len=sizes.rope_base_seq_len,
        rope_type="split",
        per_modality_projections=sizes.per_modality,
        proj_bias=sizes.per_modality,
        **settings,
    )


def smoke_connectors(width: int, n_hidden_states: int) -> LTX2TextConnectors:
    """Build random connectors in the 19B layout: two blocks of `width` channels, four registers."""
    stream = (width // 8, 8)
    return build_connectors(ConnectorSizes(width, n_hidden_states, stream, stream))
