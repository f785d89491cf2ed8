"""The presets: the sizes of the releases, the released settings, and new base models as configuration alone."""

from dataclasses import replace

import pytest
import torch
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2VocoderWithBWE

from idlora_pl.ltx2.adapter_file import read_adapter
from idlora_pl.ltx2.checkpoint import full_config
from idlora_pl.ltx2.codec_presets import CODEC_PRESETS
from idlora_pl.ltx2.codecs import Codecs
from idlora_pl.ltx2.lora import attach_lora, load_adapter, lora_state_dict, save_adapter
from idlora_pl.ltx2.presets import CONNECTOR_PRESETS, PRESETS, Preset, connector_preset_named
from idlora_pl.ltx2.text import TextEncoder
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.in_context import InContext
from idlora_pl.method.tokens import TextContext
from tests.ltx2.authors import write_release

SIGMA = torch.tensor([0.6])


def n_parameters(network):
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize(
    ("name", "vae", "audio_vae", "vocoder", "connectors"),
    [
        ("ltx2-19b", 1_222_479_601, 53_248_146, 55_592_802, 1_431_475_200),
        ("ltx2.3-22b", 726_105_969, 53_248_146, 128_537_448, 3_172_227_584),
    ],
)
def test_full_size_codecs_and_connectors_have_the_released_sizes(name, vae, audio_vae, vocoder, connectors):
    codecs = Codecs.from_preset(name)
    networks = (codecs.video.vae, codecs.audio.vae, codecs.audio.vocoder)
    assert tuple(map(n_parameters, networks)) == (vae, audio_vae, vocoder)
    with torch.device("meta"):
        assert n_parameters(LTX2TextConnectors(**CONNECTOR_PRESETS[name])) == connectors


def test_nano_and_smoke_have_the_documented_sizes():
    assert [n_parameters(LTX2.from_preset(name, device="meta")) for name in ("nano", "smoke")] == [2_719_008, 121_024]


# Settings of the released checkpoints, from diffusers' conversion script (versions 2.0 and 2.3). Only what it names.
RELEASED_TRANSFORMER = {
    "in_channels": 128,
    "out_channels": 128,
    "patch_size": 1,
    "patch_size_t": 1,
    "num_attention_heads": 32,
    "attention_head_dim": 128,
    "cross_attention_dim": 4096,
    "vae_scale_factors": (8, 32, 32),
    "pos_embed_max_pos": 20,
    "base_height": 2048,
    "base_width": 2048,
    "audio_in_channels": 128,
    "audio_out_channels": 128,
    "audio_patch_size": 1,
    "audio_patch_size_t": 1,
    "audio_num_attention_heads": 32,
    "audio_attention_head_dim": 64,
    "audio_cross_attention_dim": 2048,
    "audio_scale_factor": 4,
    "audio_pos_embed_max_pos": 20,
    "audio_sampling_rate": 16000,
    "audio_hop_length": 160,
    "num_layers": 48,
    "activation_fn": "gelu-approximate",
    "qk_norm": "rms_norm_across_heads",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "caption_channels": 3840,
    "attention_bias": True,
    "attention_out_bias": True,
    "rope_theta": 10000.0,
    "rope_double_precision": True,
    "causal_offset": 1,
    "timestep_scale_multiplier": 1000,
    "cross_attn_timestep_scale_multiplier": 1000,
    "rope_type": "split",
}
IN_23 = ("gated_attn", "cross_attn_mod", "audio_gated_attn", "audio_cross_attn_mod", "perturbed_attn")
RELEASED_VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 128,
    "spatio_temporal_scaling": (True, True, True, True),
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "timestep_conditioning": False,
    "patch_size": 4,
    "patch_size_t": 1,
    "resnet_norm_eps": 1e-6,
    "encoder_causal": True,
    "decoder_causal": False,
    "encoder_spatial_padding_mode": "zeros",
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
RELEASED_VAE_OF = {
    "ltx2-19b": {
        "block_out_channels": (256, 512, 1024, 2048),
        "decoder_block_out_channels": (256, 512, 1024),
        "layers_per_block": (4, 6, 6, 2, 2),
        "decoder_layers_per_block": (5, 5, 5, 5),
        "decoder_spatio_temporal_scaling": (True, True, True),
        "decoder_inject_noise": (False, False, False, False),
        "upsample_type": ("spatiotemporal", "spatiotemporal", "spatiotemporal"),
        "upsample_residual": (True, True, True),
        "upsample_factor": (2, 2, 2),
        "decoder_spatial_padding_mode": "reflect",
    },
    "ltx2.3-22b": {
        "block_out_channels": (256, 512, 1024, 1024),
        "decoder_block_out_channels": (256, 512, 512, 1024),
        "layers_per_block": (4, 6, 4, 2, 2),
        "decoder_layers_per_block": (4, 6, 4, 2, 2),
        "decoder_spatio_temporal_scaling": (True, True, True, True),
        "decoder_inject_noise": (False, False, False, False, False),
        "upsample_type": ("spatiotemporal", "spatiotemporal", "temporal", "spatial"),
        "upsample_residual": (False, False, False, False),
        "upsample_factor": (2, 2, 1, 2),
        "decoder_spatial_padding_mode": "zeros",
    },
}
RELEASED_AUDIO_VAE = {
    "base_channels": 128,
    "output_channels": 2,
    "ch_mult": (1, 2, 4),
    "num_res_blocks": 2,
    "attn_resolutions": None,
    "in_channels": 2,
    "resolution": 256,
    "latent_channels": 8,
    "norm_type": "pixel",
    "causality_axis": "height",
    "dropout": 0.0,
    "mid_block_add_attention": False,
    "sample_rate": 16000,
    "mel_hop_length": 160,
    "is_causal": True,
    "mel_bins": 64,
    "double_z": True,
}
RELEASED_CONNECTORS = {
    "caption_channels": 3840,
    "text_proj_in_factor": 49,
    "video_connector_attention_head_dim": 128,
    "video_connector_num_learnable_registers": 128,
    "audio_connector_num_learnable_registers": 128,
    "connector_rope_base_seq_len": 4096,
    "rope_theta": 10000.0,
    "rope_double_precision": True,
    "causal_temporal_positioning": False,
    "rope_type": "split",
}
RELEASED_CONNECTORS_OF = {
    "ltx2-19b": {
        "video_connector_num_attention_heads": 30,
        "video_connector_num_layers": 2,
        "video_gated_attn": False,
        "audio_connector_num_attention_heads": 30,
        "audio_connector_attention_head_dim": 128,
        "audio_connector_num_layers": 2,
        "audio_gated_attn": False,
        "per_modality_projections": False,
        "proj_bias": False,
    },
    "ltx2.3-22b": {
        "video_connector_num_attention_heads": 32,
        "video_connector_num_layers": 8,
        "video_gated_attn": True,
        "audio_connector_num_attention_heads": 32,
        "audio_connector_attention_head_dim": 64,
        "audio_connector_num_layers": 8,
        "audio_gated_attn": True,
        "per_modality_projections": True,
        "video_hidden_dim": 4096,
        "audio_hidden_dim": 2048,
        "proj_bias": True,
    },
}
RELEASED_VOCODER_OF = {
    "ltx2-19b": {
        "in_channels": 128,
        "hidden_channels": 1024,
        "out_channels": 2,
        "upsample_kernel_sizes": [16, 15, 8, 4, 4],
        "upsample_factors": [6, 5, 2, 2, 2],
        "act_fn": "leaky_relu",
        "antialias": False,
        "final_act_fn": "tanh",
        "final_bias": True,
        "output_sampling_rate": 24000,
    },
    "ltx2.3-22b": {
        "in_channels": 128,
        "hidden_channels": 1536,
        "out_channels": 2,
        "upsample_kernel_sizes": [11, 4, 4, 4, 4, 4],
        "upsample_factors": [5, 2, 2, 2, 2, 2],
        "act_fn": "snakebeta",
        "antialias": True,
        "final_act_fn": None,
        "final_bias": False,
        "bwe_hidden_channels": 512,
        "bwe_upsample_kernel_sizes": [12, 11, 4, 4, 4],
        "bwe_upsample_factors": [6, 5, 2, 2, 2],
        "filter_length": 512,
        "hop_length": 80,
        "window_length": 512,
        "num_mel_channels": 64,
        "input_sampling_rate": 16000,
        "output_sampling_rate": 48000,
    },
}


@pytest.mark.parametrize("name", ["ltx2-19b", "ltx2.3-22b"])
def test_the_full_sizes_have_the_released_settings(name):
    from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel

    is_23 = name == "ltx2.3-22b"
    released = RELEASED_TRANSFORMER | dict.fromkeys(IN_23, is_23) | {"use_prompt_embeddings": not is_23}
    assert full_config(LTX2VideoTransformer3DModel, PRESETS[name].config).items() >= released.items()
    (vae, video), (audio_vae, audio), (vocoder_class, vocoder) = CODEC_PRESETS[name].parts.values()
    assert full_config(vae, video).items() >= (RELEASED_VAE | RELEASED_VAE_OF[name]).items()
    assert full_config(audio_vae, audio).items() >= RELEASED_AUDIO_VAE.items()
    settings = full_config(vocoder_class, vocoder)
    assert {key: settings[key] for key in RELEASED_VOCODER_OF[name]} == RELEASED_VOCODER_OF[name]
    assert (vocoder_class is LTX2VocoderWithBWE) == is_23
    connectors = full_config(LTX2TextConnectors, CONNECTOR_PRESETS[name])
    assert connectors.items() >= (RELEASED_CONNECTORS | RELEASED_CONNECTORS_OF[name]).items()


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="connectors preset must be one of smoke, ltx2-19b, ltx2.3-22b; got 'ltx2'"):
        connector_preset_named("ltx2")


@pytest.fixture
def newer(smoke_ltx23) -> Preset:
    """A base model of one's own: 2.3 with the four switches that diffusers has for LTX-2.5, three blocks, tiny."""
    switches = {"ff_bias": False, "audio_ff_bias": True, "use_prompt_adaln_single": False}
    config = {**smoke_ltx23.preset.config, **switches, "use_keyframes_abs_pos_embedding": True, "num_layers": 3}
    return replace(smoke_ltx23.preset, name="mine-2.5", config=config, stg_block=2)


def test_a_new_base_model_is_a_preset_and_nothing_else(newer, make_sequence, tmp_path):
    model = LTX2(newer).requires_grad_(False)
    names = model.transformer.state_dict().keys()
    assert "keyframes_abs_pos_embedding" in names
    assert not any(name.startswith("prompt_adaln") or ".ff.net.2.bias" in name for name in names)
    header = {"transformer": {"ff_bias": False, "use_keyframes_abs_pos_embedding": True, "num_layers": 3}}
    header["transformer"] |= {"av_ca_timestep_scale_multiplier": 1000.0, "frequencies_precision": "float64"}
    path = write_release(tmp_path / "mine.safetensors", {"transformer": model.transformer}, header)
    loaded = LTX2.from_pretrained(path, newer)
    attach_lora(model, rank=2)
    for name, weight in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(weight)
    adapter = save_adapter(model, tmp_path / "a.safetensors", InContext().to_metadata())
    load_adapter(loaded, adapter)
    assert read_adapter(adapter).metadata["base_model"] == "mine-2.5"
    assert len(lora_state_dict(loaded)) == 18 * 3 * 2
    av = make_sequence()
    av = replace(av, text=TextContext(torch.randn(1, 5, 32), torch.randn(1, 5, 16)))
    with torch.no_grad():
        for part, expected in zip(loaded(av, SIGMA), model(av, SIGMA), strict=True):
            # the same weights elsewhere in memory may take another kernel, which adds in another order
            torch.testing.assert_close(part, expected, atol=1e-5, rtol=1e-5)
            assert part.isfinite().all()


def test_a_release_of_a_new_base_model_is_not_taken_for_an_older_one(newer, tmp_path):
    header = {"transformer": {"ff_bias": False, "use_keyframes_abs_pos_embedding": True}}
    path = write_release(tmp_path / "mine.safetensors", {"transformer": LTX2(newer).transformer}, header)
    older = replace(
        newer, name="older", config={**newer.config, "use_keyframes_abs_pos_embedding": False, "ff_bias": True}
    )
    message = "header: transformer.ff_bias = False, not True, .*; .*unexpected: keyframes_abs_pos_embedding"
    with pytest.raises(ValueError, match=message.replace("; .*", ".*")):
        LTX2.from_pretrained(path, older)


def test_codecs_of_one_base_model_in_the_folder_of_another_are_refused(smoke_codecs, tmp_path):
    smoke_codecs.save_pretrained(tmp_path)
    other = replace(
        CODEC_PRESETS["smoke"], video={**CODEC_PRESETS["smoke"].video, "decoder_spatial_padding_mode": "zeros"}
    )
    Codecs.from_pretrained(tmp_path, preset="smoke")
    with pytest.raises(ValueError, match="vae: config.json .*: decoder_spatial_padding_mode = 'reflect', not 'zeros'"):
        Codecs.from_pretrained(tmp_path, preset=other)
    with pytest.raises(ValueError, match="vocoder: config.json .*'LTX2Vocoder', not 'LTX2VocoderWithBWE'"):
        Codecs.from_pretrained(tmp_path, preset=replace(CODEC_PRESETS["smoke"], vocoder_class=LTX2VocoderWithBWE))
    with pytest.raises(ValueError, match="vae: config.json is not that of preset 'ltx2-19b': block_out_channels = "):
        Codecs.from_pretrained(tmp_path, preset="ltx2-19b")


def test_connectors_of_another_base_model_in_a_folder_are_refused(smoke_text, tmp_path):
    smoke_text.connectors.save_pretrained(tmp_path / "connectors")
    TextEncoder.from_pretrained(tmp_path, preset="smoke", with_language_model=False)
    with pytest.raises(
        ValueError, match="connectors: config.json is not that of preset 'ltx2.3-22b': audio_connector_"
    ):
        TextEncoder.from_pretrained(tmp_path, preset="ltx2.3-22b", with_language_model=False)
