"""Check of the text path: normalisation of hidden states, projections, connectors.

Letters: B prompts, L text tokens, D width of the language model, K its hidden states.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from idlora_pl.ltx2.presets import connector_preset_named
from idlora_pl.ltx2.text import (
    LTX2TextConnectors,
    connect_features,
    normalise_layers,
    normalise_tokens,
    project_features,
)
from idlora_pl.method.tokens import TextFeatures
from idlora_pl.parity.cases import LAYOUTS, Case
from idlora_pl.parity.findings import Findings

_STREAMS = ("video", "audio")
_PROJECTION = "feat.w.{}_aggregate_embed.{}"


def check_connectors(findings: Findings) -> None:
    """Compare normalised states, projected features (2.3) and what both connectors make of features."""
    case = findings.case
    per_modality = case.layout == LAYOUTS[1]
    states = case.tensor("feat.hidden_states", None, None, None, None)
    batch, length, width, n_states = states.shape
    connectors = _connectors(case, _settings(case, width, n_states))
    mask = _mask(case, batch, length, case.whole("connector.registers"))
    with torch.no_grad():
        normalise = normalise_tokens if per_modality else normalise_layers
        if case.has("feat.normed"):
            findings.tensor("feat.normed", normalise(states, mask))
        features = project_features(connectors, states, mask)
        for stream, ours in zip(_STREAMS, (features.video, features.audio), strict=True):
            if case.has(f"feat.{stream}"):
                case.tensor(_PROJECTION.format(stream, "weight"))  # without it ours would be random
                findings.tensor(f"feat.{stream}", ours)
        context = connect_features(connectors, _given_features(case, connectors, mask))
    findings.tensor("out.video_context", context.video)
    findings.tensor("out.audio_context", context.audio)
    if case.has("out.mask"):
        seen = torch.ones_like(mask) if context.mask is None else context.mask
        findings.tensor("out.mask", seen.to(case.tensor("out.mask").dtype))


def _settings(case: Case, width: int, n_states: int) -> dict[str, Any]:
    """Return the arguments of the class: the conventions of the layout, and the sizes of the case."""
    own = {
        **connector_preset_named(case.layout),
        "caption_channels": width,
        "text_proj_in_factor": n_states,
        "connector_rope_base_seq_len": case.whole("connector.rope_base_seq_len", least=1),
    }
    for stream in _STREAMS:  # a case names heads and their width once if both streams are alike
        place = f"connector.{stream}" if case.has_field(f"connector.{stream}") else "connector"
        heads, head_width = case.whole(f"{place}.heads", least=1), case.whole(f"{place}.head_dim", least=1)
        own |= {
            f"{stream}_connector_num_attention_heads": heads,
            f"{stream}_connector_attention_head_dim": head_width,
            f"{stream}_connector_num_layers": case.whole("connector.layers", least=1),
            f"{stream}_connector_num_learnable_registers": case.whole("connector.registers", least=1),
            f"{stream}_gated_attn": case.flag("connector.gated"),
            f"{stream}_hidden_dim": heads * head_width,
        }
    return own


def _connectors(case: Case, settings: dict[str, Any]) -> LTX2TextConnectors:
    """Build the connectors and load the weights of the case; a projection that it lacks stays random."""
    try:
        connectors = LTX2TextConnectors(**settings)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise case.wrong("connector", f"is refused by diffusers' LTX2TextConnectors: {error}") from error
    needed = connectors.state_dict()
    weights = {name[2:]: name for name in case.names("w.")}
    for stream in _STREAMS:
        for part in ("weight", "bias"):
            name = _PROJECTION.format(stream, part)
            if case.layout == LAYOUTS[1] and case.has(name):
                weights[f"{stream}_text_proj_in.{part}"] = name
    loaded = {}
    for ours, name in weights.items():
        if ours not in needed:
            raise case.wrong_tensor(name, "is unknown; the connectors of 'connector' have no such weight")
        loaded[ours] = case.tensor(name, *needed[ours].shape)
    for ours in needed.keys() - loaded.keys():
        if "text_proj_in" not in ours:
            raise case.wrong_tensor(f"w.{ours}", "is missing; the connectors of 'connector' need it")
    connectors.load_state_dict(loaded, strict=False)
    return connectors


def _mask(case: Case, batch: int, length: int, registers: int) -> Tensor:
    mask = case.tensor("in.mask", batch, length)
    if not ((mask == 0) | (mask == 1)).all() or (mask.diff(dim=1) < 0).any():
        raise case.wrong_tensor("in.mask", "must hold 0 (padding) on the left and 1 (text) on the right alone")
    if length % registers:
        raise case.wrong("connector.registers", f"is {registers}; it must divide the {length} text tokens")
    return mask.bool()


def _given_features(case: Case, connectors: LTX2TextConnectors, mask: Tensor) -> TextFeatures:
    """Return the features that the case puts into the connectors: one for both streams (19B), or one each."""
    shared = case.has("in.prompt_embeds")
    names = ["in.prompt_embeds"] * 2 if shared else [f"in.{stream}_prompt_embeds" for stream in _STREAMS]
    video, audio = (case.tensor(name, *mask.shape, None) for name in names)
    for stream, features in zip(_STREAMS, (video, audio), strict=True):
        registers = connectors.state_dict()[f"{stream}_connector.learnable_registers"]
        if features.shape[-1] != registers.shape[-1]:
            wanted = (*mask.shape, registers.shape[-1])
            name = names[_STREAMS.index(stream)]
            raise case.wrong_tensor(name, f"has shape {tuple(features.shape)}; it must be {wanted}")
    return TextFeatures(video, audio, mask)
