"""Sizes of the codecs of each base model, as arguments of the diffusers classes; the rest are defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from diffusers.models.autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video
from diffusers.models.autoencoders.autoencoder_kl_ltx2_audio import AutoencoderKLLTX2Audio
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE

from idlora_pl.ltx2.key_map import Part

VocoderClass = type[LTX2Vocoder] | type[LTX2VocoderWithBWE]


NetworkClass = type[AutoencoderKLLTX2Video] | type[AutoencoderKLLTX2Audio] | VocoderClass


# The strides follow from the block types; diffusers' own formula gives 64 and 16, so they are always named.
_STRIDES = {"spatial_compression_ratio": 32, "temporal_compression_ratio": 8, "decoder_causal": False}


@dataclass(frozen=True)
class CodecPreset:
    """Arguments of the three networks of one base model.

    Attributes:
        video: Of `AutoencoderKLLTX2Video`.
        audio: Of `AutoencoderKLLTX2Audio`.
        vocoder: Of `vocoder_class`.
        vocoder_class: `LTX2Vocoder`, or `LTX2VocoderWithBWE` which also extends the bandwidth to 48 kHz.
        device: Where the preset is built unless the caller says otherwise; "meta" has shapes but no weights.
    """

    video: Mapping[str, object]
    audio: Mapping[str, object] = field(default_factory=dict)
    vocoder: Mapping[str, object] = field(default_factory=dict)
    vocoder_class: VocoderClass = LTX2Vocoder
    device: str = "meta"

    @property
    def parts(self) -> dict[Part, tuple[NetworkClass, Mapping[str, object]]]:
        """Class and arguments of each network."""
        return {
            "vae": (AutoencoderKLLTX2Video, self.video),
            "audio_vae": (AutoencoderKLLTX2Audio, self.audio),
            "vocoder": (self.vocoder_class, self.vocoder),
        }

    def build(
        self, device: str | torch.device
    ) -> tuple[AutoencoderKLLTX2Video, AutoencoderKLLTX2Audio, LTX2Vocoder | LTX2VocoderWithBWE]:
        """Build the three networks with random weights on `device`, drawing from torch's global generator."""
        with torch.device(device):
            return (
                AutoencoderKLLTX2Video(**self.video),
                AutoencoderKLLTX2Audio(**self.audio),
                self.vocoder_class(**self.vocoder),
            )


CODEC_PRESETS: dict[str, CodecPreset] = {
    # 128 video channels and 8x16 audio numbers per token as in LTX-2, hardly anything in between. The audio
    # VAE keeps its base width: diffusers ties the 128 latent statistics to it.
    "smoke": CodecPreset(
        video=_STRIDES
        | {
            "block_out_channels": (16, 16, 32, 32),
            "layers_per_block": (0, 1, 1, 1, 1),
            "decoder_block_out_channels": (8, 16, 32),
            "decoder_layers_per_block": (1, 1, 1, 1),
        },
        audio={"ch_mult": (1, 1, 1), "num_res_blocks": 1},
        vocoder={"hidden_channels": 32, "resnet_kernel_sizes": [3], "resnet_dilations": [[1, 3]]},
        device="cpu",
    ),
    "ltx2-19b": CodecPreset(video=_STRIDES),
    "ltx2.3-22b": CodecPreset(
        video=_STRIDES
        | {
            "block_out_channels": (256, 512, 1024, 1024),
            "layers_per_block": (4, 6, 4, 2, 2),
            "decoder_block_out_channels": (256, 512, 512, 1024),
            "decoder_layers_per_block": (4, 6, 4, 2, 2),
            "decoder_spatio_temporal_scaling": (True, True, True, True),
            "decoder_inject_noise": (False, False, False, False, False),
            "upsample_type": ("spatiotemporal", "spatiotemporal", "temporal", "spatial"),
            "upsample_residual": (False, False, False, False),
            "upsample_factor": (2, 2, 1, 2),
            "decoder_spatial_padding_mode": "zeros",
        },
        vocoder_class=LTX2VocoderWithBWE,
    ),
}


def codec_preset_named(name: str) -> CodecPreset:
    """The codecs of a base model.

    Raises:
        ValueError: when there are none of that name.
    """
    if name not in CODEC_PRESETS:
        raise ValueError(f"codecs preset must be one of {', '.join(CODEC_PRESETS)}; got {name!r}")
    return CODEC_PRESETS[name]
