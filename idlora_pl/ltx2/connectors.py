"""Text features of LTX-2 and its frozen connectors, around diffusers' `LTX2TextConnectors`.

`LTX2TextConnectors.forward` does both steps at once; here they are apart, because shards store what lies
between them.

Letters: B prompts, L text tokens (left-padded), D width of the language model, K its hidden states
(layers + 1).
"""

from __future__ import annotations

from math import sqrt

import torch
from diffusers.pipelines.ltx2.connectors import (
    LTX2TextConnectors,
    per_layer_masked_mean_norm,
    per_token_rms_norm,
)
from torch import Tensor

from idlora_pl.ltx2.text_presets import smoke_connector_preset
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


def smoke_connectors(width: int, n_hidden_states: int) -> LTX2TextConnectors:
    """Build random connectors in the 19B layout; see `smoke_connector_preset`."""
    return LTX2TextConnectors(**smoke_connector_preset(width, n_hidden_states))
