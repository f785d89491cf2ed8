"""Our two steps of the text path, apart and together; that they equal the authors' is `idlora parity`'s."""

import json
from pathlib import Path

import pytest
import torch
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from safetensors.torch import load_file

from idlora_pl.ltx2.text import connect_features, project_features

GOLDEN = Path(__file__).parent / "golden"


def load_case(name):
    """Return the JSON and the tensors of a golden case."""
    return json.loads((GOLDEN / f"{name}.json").read_text()), load_file(GOLDEN / f"{name}.safetensors")


def golden_connectors(case, tensors):
    """Build the connectors of a case, with its weights; what the case does not hold stays random."""
    sizes = case["connector"]
    per_modality = case["layout"] == "ltx2.3-22b"
    streams = {name: sizes.get(name, sizes) for name in ("video", "audio")}
    settings = {
        f"{name}_{key}": value
        for name, size in streams.items()
        for key, value in {
            "connector_num_attention_heads": size["heads"],
            "connector_attention_head_dim": size["head_dim"],
            "connector_num_layers": sizes["layers"],
            "connector_num_learnable_registers": sizes["registers"],
            "gated_attn": sizes["gated"],
            "hidden_dim": size["heads"] * size["head_dim"],
        }.items()
    }
    _, _, width, n_states = tensors["feat.hidden_states"].shape
    connectors = LTX2TextConnectors(
        caption_channels=width,
        text_proj_in_factor=n_states,
        connector_rope_base_seq_len=sizes["rope_base_seq_len"],
        rope_type="split",
        per_modality_projections=per_modality,
        proj_bias=per_modality,
        **settings,
    ).requires_grad_(False)
    weights = {name[2:]: tensor for name, tensor in tensors.items() if name.startswith("w.")}
    for stream in ("video", "audio") if per_modality else ():
        for part in ("weight", "bias"):
            weights[f"{stream}_text_proj_in.{part}"] = tensors[f"feat.w.{stream}_aggregate_embed.{part}"]
    report = connectors.load_state_dict(weights, strict=False)
    assert report.missing_keys == ([] if per_modality else ["text_proj_in.weight"])
    assert not report.unexpected_keys
    return connectors


def test_projected_features_of_19b_are_one_projection_of_the_normalised_states():
    case, tensors = load_case("m19b_connectors")
    mask = tensors["in.mask"].bool()
    connectors = golden_connectors(case, tensors)
    features = project_features(connectors, tensors["feat.hidden_states"], mask)
    expected = tensors["feat.normed"] @ connectors.text_proj_in.weight.T
    torch.testing.assert_close(features.video, expected, atol=case["tolerance"], rtol=0)
    assert torch.equal(features.audio, features.video)


@pytest.mark.parametrize("name", ["m19b_connectors", "m23_connectors"])
def test_both_steps_together_equal_diffusers_own_forward(name):
    case, tensors = load_case(name)
    mask = tensors["in.mask"].bool()
    connectors = golden_connectors(case, tensors)
    context = connect_features(connectors, project_features(connectors, tensors["feat.hidden_states"], mask))
    video, audio, _ = connectors(tensors["feat.hidden_states"], tensors["in.mask"])
    torch.testing.assert_close(context.video, video)
    torch.testing.assert_close(context.audio, audio)
