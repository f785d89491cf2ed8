"""The authors' file of a release, written from diffusers networks; the key map is not derived from ours.

Names go from diffusers to the authors, from the tables of the specification (section 7) and of diffusers' conversion
script; header entries are those of the public files of LTX-2.3, with the sizes of the networks at hand.
"""

import json
import re
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file

TRANSFORMER = {
    r"^proj_in\.": "patchify_proj.",
    r"^audio_proj_in\.": "audio_patchify_proj.",
    r"^time_embed\.": "adaln_single.",
    r"^audio_time_embed\.": "audio_adaln_single.",
    r"^prompt_adaln\.": "prompt_adaln_single.",
    r"^audio_prompt_adaln\.": "audio_prompt_adaln_single.",
    r"^av_cross_attn_video_scale_shift\.": "av_ca_video_scale_shift_adaln_single.",
    r"^av_cross_attn_audio_scale_shift\.": "av_ca_audio_scale_shift_adaln_single.",
    r"^av_cross_attn_video_a2v_gate\.": "av_ca_a2v_gate_adaln_single.",
    r"^av_cross_attn_audio_v2a_gate\.": "av_ca_v2a_gate_adaln_single.",
    r"\.video_a2v_cross_attn_scale_shift_table$": ".scale_shift_table_a2v_ca_video",
    r"\.audio_a2v_cross_attn_scale_shift_table$": ".scale_shift_table_a2v_ca_audio",
    r"\.norm_q\.": ".q_norm.",
    r"\.norm_k\.": ".k_norm.",
}
CONNECTORS = {
    r"^video_text_proj_in\.": "text_embedding_projection.video_aggregate_embed.",
    r"^audio_text_proj_in\.": "text_embedding_projection.audio_aggregate_embed.",
    r"^text_proj_in\.": "text_embedding_projection.aggregate_embed.",
    r"^video_connector\.": "model.diffusion_model.video_embeddings_connector.",
    r"^audio_connector\.": "model.diffusion_model.audio_embeddings_connector.",
    r"\.transformer_blocks\.": ".transformer_1d_blocks.",
    r"\.norm_q\.": ".q_norm.",
    r"\.norm_k\.": ".k_norm.",
}
VIDEO_VAE = {
    r"^encoder\.down_blocks\.0\.resnets\.": "encoder.down_blocks.0.res_blocks.",
    r"^encoder\.down_blocks\.0\.downsamplers\.0\.": "encoder.down_blocks.1.",
    r"^encoder\.down_blocks\.1\.resnets\.": "encoder.down_blocks.2.res_blocks.",
    r"^encoder\.down_blocks\.1\.downsamplers\.0\.": "encoder.down_blocks.3.",
    r"^encoder\.down_blocks\.2\.resnets\.": "encoder.down_blocks.4.res_blocks.",
    r"^encoder\.down_blocks\.2\.downsamplers\.0\.": "encoder.down_blocks.5.",
    r"^encoder\.down_blocks\.3\.resnets\.": "encoder.down_blocks.6.res_blocks.",
    r"^encoder\.down_blocks\.3\.downsamplers\.0\.": "encoder.down_blocks.7.",
    r"^encoder\.mid_block\.resnets\.": "encoder.down_blocks.8.res_blocks.",
    r"^decoder\.mid_block\.resnets\.": "decoder.up_blocks.0.res_blocks.",
    r"^decoder\.up_blocks\.0\.upsamplers\.0\.": "decoder.up_blocks.1.",
    r"^decoder\.up_blocks\.0\.resnets\.": "decoder.up_blocks.2.res_blocks.",
    r"^decoder\.up_blocks\.1\.upsamplers\.0\.": "decoder.up_blocks.3.",
    r"^decoder\.up_blocks\.1\.resnets\.": "decoder.up_blocks.4.res_blocks.",
    r"^decoder\.up_blocks\.2\.upsamplers\.0\.": "decoder.up_blocks.5.",
    r"^decoder\.up_blocks\.2\.resnets\.": "decoder.up_blocks.6.res_blocks.",
    r"^decoder\.up_blocks\.3\.upsamplers\.0\.": "decoder.up_blocks.7.",
    r"^decoder\.up_blocks\.3\.resnets\.": "decoder.up_blocks.8.res_blocks.",
    r"^latents_mean$": "per_channel_statistics.mean-of-means",
    r"^latents_std$": "per_channel_statistics.std-of-means",
}
AUDIO_VAE = {
    r"^latents_mean$": "per_channel_statistics.mean-of-means",
    r"^latents_std$": "per_channel_statistics.std-of-means",
}
VOCODER = {
    r"(^|\.)upsamplers\.": r"\1ups.",
    r"(^|\.)resnets\.": r"\1resblocks.",
    r"(^|\.)conv_in\.": r"\1conv_pre.",
    r"(^|\.)conv_out\.": r"\1conv_post.",
    r"(^|\.)act_out\.": r"\1act_post.",
    r"\.downsample\.filter$": ".downsample.lowpass.filter",
}
MAPS = {
    "transformer": ("model.diffusion_model.", TRANSFORMER),
    "connectors": ("", CONNECTORS),
    "vae": ("vae.", VIDEO_VAE),
    "audio_vae": ("audio_vae.", AUDIO_VAE),
    "vocoder": ("vocoder.", VOCODER),
}


@cache
def authors_name(part, name):
    """The authors' name of a tensor of a diffusers network."""
    prefix, table = MAPS[part]
    if part == "vocoder":  # `upsamplers` and `upsample.filter` must not be mixed up, so the first rule is on lists
        name = re.sub(r"(^|\.)upsamplers\.(\d)", r"\1ups.\2", name)
    for pattern, replacement in table.items():
        name = re.sub(pattern, replacement, name)
    return prefix + name


def header_of_19b(networks):
    """What the header of a file in the layout of LTX-2 19B tells."""
    c, vae, audio, vocoder = (networks[part].config for part in ("transformer", "vae", "audio_vae", "vocoder"))
    transformer = {
        "_class_name": "AVTransformer3DModel",
        "num_attention_heads": c.num_attention_heads,
        "attention_head_dim": c.attention_head_dim,
        "cross_attention_dim": c.cross_attention_dim,
        "in_channels": 128,
        "num_layers": c.num_layers,
        "caption_channels": c.caption_channels,
        "norm_eps": 1e-06,
        "qk_norm": "rms_norm",
        "positional_embedding_theta": 10000.0,
        "positional_embedding_max_pos": [20, 2048, 2048],
        "timestep_scale_multiplier": 1000,
        "av_ca_timestep_scale_multiplier": 1000.0,
        "audio_num_attention_heads": c.audio_num_attention_heads,
        "audio_attention_head_dim": c.audio_attention_head_dim,
        "audio_cross_attention_dim": c.audio_cross_attention_dim,
        "audio_positional_embedding_max_pos": [20],
        "connector_positional_embedding_max_pos": [4096],
        "use_middle_indices_grid": True,
        "rope_type": "split",
        "frequencies_precision": "float64",
    }
    ddconfig = {
        "double_z": True,
        "mel_bins": 64,
        "z_channels": 8,
        "in_channels": 2,
        "out_ch": 2,
        "ch": 128,
        "ch_mult": list(audio.ch_mult),
        "num_res_blocks": audio.num_res_blocks,
        "norm_type": "pixel",
        "causality_axis": "height",
    }
    return {
        "transformer": transformer,
        "scheduler": {"_class_name": "RectifiedFlowScheduler"},
        "vae": {
            "_class_name": "CausalVideoAutoencoder",
            "latent_channels": 128,
            "patch_size": 4,
            "causal_decoder": False,
            "timestep_conditioning": False,
            "decoder_spatial_padding_mode": "reflect" if vae.decoder_spatial_padding_mode == "reflect" else "zeros",
        },
        "audio_vae": {
            "model": {"params": {"ddconfig": ddconfig, "sampling_rate": 16000}},
            "preprocessing": {"stft": {"hop_length": 160, "filter_length": 1024}, "mel": {"n_mel_channels": 64}},
        },
        "vocoder": generator(vocoder, ""),
    }


def header_of_23(networks):
    """What the header of a file in the layout of LTX-2.3 tells."""
    header, connectors = header_of_19b(networks), networks["connectors"].config
    vocoder = networks["vocoder"].config
    header["transformer"] |= {
        "connector_num_attention_heads": connectors.video_connector_num_attention_heads,
        "connector_attention_head_dim": connectors.video_connector_attention_head_dim,
        "connector_num_layers": connectors.video_connector_num_layers,
        "connector_num_learnable_registers": connectors.video_connector_num_learnable_registers,
        "audio_connector_num_attention_heads": connectors.audio_connector_num_attention_heads,
        "audio_connector_attention_head_dim": connectors.audio_connector_attention_head_dim,
        "apply_gated_attention": True,
        "connector_apply_gated_attention": True,
        "caption_proj_before_connector": True,
        "cross_attention_adaln": True,
    }
    header["vae"]["spatial_padding_mode"] = "zeros"
    analysis = {"input_sampling_rate": 16000, "output_sampling_rate": 48000, "hop_length": 80, "n_fft": 512}
    analysis |= {"win_size": 512, "num_mels": 64, "apply_final_activation": False}
    header["vocoder"] = {"vocoder": generator(vocoder, ""), "bwe": generator(vocoder, "bwe_") | analysis}
    return header


def generator(config, prefix):
    """A section of the vocoder."""
    return {
        "upsample_initial_channel": config[f"{prefix}hidden_channels"],
        "upsample_rates": list(config[f"{prefix}upsample_factors"]),
        "upsample_kernel_sizes": list(config[f"{prefix}upsample_kernel_sizes"]),
        "resblock_kernel_sizes": list(config[f"{prefix}resnet_kernel_sizes"]),
        "resblock_dilation_sizes": [list(each) for each in config[f"{prefix}resnet_dilations"]],
        "stereo": True,
    }


def write_release(path: Path, networks, header, *, dtype=torch.float32, without=(), extra=None) -> Path:
    """Write networks by part into one file with the authors' names.

    Args:
        path: The file.
        networks: Diffusers networks by part.
        header: Its `config`; None writes none.
        dtype: In which the weights are stored.
        without: Names to leave out.
        extra: More tensors.
    """
    tensors = {
        authors_name(part, name): weight.detach().to(dtype).contiguous()
        for part, network in networks.items()
        for name, weight in network.state_dict().items()
    }
    unused = ("channel", "mean-of-stds", "mean-of-stds_over_std-of-means")
    tensors |= {f"vae.per_channel_statistics.{name}": torch.ones(128, dtype=dtype) for name in unused}
    tensors = {name: weight for name, weight in tensors.items() if name not in without} | (extra or {})
    metadata = {"model_version": "test"} | ({} if header is None else {"config": json.dumps(header)})
    save_file(tensors, path, metadata=metadata)
    return path
