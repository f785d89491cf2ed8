"""Random tiny networks of the real classes, built once."""

from dataclasses import replace

import pytest
import torch
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from torch import Tensor

from idlora_pl.ltx2.codecs import Codecs
from idlora_pl.ltx2.presets import PRESETS
from idlora_pl.ltx2.text import TextEncoder
from idlora_pl.ltx2.transformer import LTX2


@pytest.fixture(scope="session")
def smoke_codecs() -> Codecs:
    """Codecs of the smoke preset; tests that change their state must change it back."""
    return Codecs.from_preset("smoke")


@pytest.fixture(scope="session")
def smoke_text() -> TextEncoder:
    """The text encoder of the smoke preset."""
    return TextEncoder.from_preset("smoke")


@pytest.fixture(scope="session")
def noise_frames() -> Tensor:
    """White-noise frames, uint8 (1, 9, 3, 64, 96)."""
    return torch.randint(0, 256, (1, 9, 3, 64, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture(scope="session")
def noise_sound() -> Tensor:
    """One second of white noise at 16 kHz, (1, 2, 16000)."""
    return 0.1 * torch.randn(1, 2, 16000, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def smoke_ltx23() -> LTX2:
    """A random base model in the layout of LTX-2.3, with the sizes of the smoke model; tests must leave it as it is."""
    smoke, preset = PRESETS["smoke"].config, PRESETS["ltx2.3-22b"]
    sizes = ("num_attention_heads", "attention_head_dim", "cross_attention_dim")
    small = {f"{stream}{name}": smoke[f"{stream}{name}"] for name in sizes for stream in ("", "audio_")}
    config = {**preset.config, **small, **{name: smoke[name] for name in ("num_layers", "caption_channels")}}
    with torch.random.fork_rng():
        torch.manual_seed(2)
        tiny = replace(preset, config=config, dtype=torch.float32, device="cpu", stg_block=1)
        return LTX2(tiny).requires_grad_(False)


def connectors_of_2_3(width: int, n_hidden_states: int) -> LTX2TextConnectors:
    """Small connectors in the layout of LTX-2.3: one projection for each modality, gated attention."""
    return LTX2TextConnectors(
        caption_channels=width,
        text_proj_in_factor=n_hidden_states,
        video_connector_num_attention_heads=4,
        video_connector_attention_head_dim=8,
        video_connector_num_learnable_registers=4,
        video_gated_attn=True,
        audio_connector_num_attention_heads=2,
        audio_connector_attention_head_dim=8,
        audio_connector_num_learnable_registers=4,
        audio_gated_attn=True,
        rope_type="split",
        per_modality_projections=True,
        video_hidden_dim=32,
        audio_hidden_dim=16,
        proj_bias=True,
    )


@pytest.fixture(scope="session", params=["ltx2-19b", "ltx2.3-22b"])
def text_encoder(request: pytest.FixtureRequest, smoke_text: TextEncoder) -> TextEncoder:
    """A text encoder in the layout of LTX-2 19B, then in that of LTX-2.3."""
    if request.param == "ltx2-19b":
        return smoke_text
    return TextEncoder(smoke_text.language_model, connectors_of_2_3(24, 3))
