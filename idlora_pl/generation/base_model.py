"""A base model with everything around it, by name: transformer, codecs, text encoder."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from idlora_pl.ltx2.checkpoint import require_components
from idlora_pl.ltx2.codecs import CODEC_PARTS, Codecs
from idlora_pl.ltx2.lora import load_adapter
from idlora_pl.ltx2.presets import PresetName, preset_named
from idlora_pl.ltx2.single_file import SingleFile
from idlora_pl.ltx2.text import TextEncoder, refuse_missing_text
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.in_context import InContext
from idlora_pl.method.positions import Geometry
from idlora_pl.method.tokens import TextContext, TextFeatures
from idlora_pl.nano.codecs import ASSETS, NanoCodecs
from idlora_pl.nano.text import NanoTextEncoder


class ClipCodecs(Protocol):
    """What turns clips into latents and back; `ltx2.codecs.Codecs` and `nano.codecs.NanoCodecs` are two."""

    geometry: Geometry
    sample_rate_hz: int
    audio_channels: int

    def video_latent_shape(self, n_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Return (C, F', H', W')."""
        ...

    def n_audio_tokens(self, n_frames: int) -> int:
        """Return the number of audio tokens of a clip."""
        ...

    def encode_video(self, frames: Tensor) -> Tensor:
        """Encode uint8 frames (B, F, 3, H, W) to latents (B, C, F', H', W')."""
        ...

    def decode_video(self, latents: Tensor) -> Tensor:
        """Decode latents to uint8 frames (B, F, 3, H, W)."""
        ...

    def encode_audio(self, waveform: Tensor, sample_rate_hz: int, *, n_tokens: int | None = None) -> Tensor:
        """Encode a waveform (B, channels, S) to latents (B, C, T, M)."""
        ...

    def decode_audio(self, latents: Tensor) -> Tensor:
        """Decode latents to a waveform (B, channels, S)."""
        ...


class PromptEncoder(Protocol):
    """What turns prompts into the context that the transformer reads."""

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """Encode prompts to features, which shards store."""
        ...

    def connect(self, features: TextFeatures) -> TextContext:
        """Run the frozen connectors."""
        ...


@dataclass(frozen=True)
class Components:
    """A base model ready for use.

    Attributes:
        model: The transformer as a velocity field.
        codecs: Clip <-> latents.
        text: Prompt -> context.
    """

    model: LTX2
    codecs: ClipCodecs
    text: PromptEncoder


def load_components(base: PresetName, weights: str | Path | None = None, gemma: str | Path | None = None) -> Components:
    """Load transformer, codecs and text encoder of a base model.

    Args:
        base: Preset; "nano" ships with the package, "smoke" has random weights (its clips are noise).
        weights: Checkpoint, a folder in the layout of a diffusers pipeline or the authors' safetensors file; needed
            for the full-size models. For "nano" a safetensors file that replaces the shipped transformer.
        gemma: Folder of the language model with its tokenizer; the authors' file has none. None takes that of the
            checkpoint folder.

    Raises:
        ValueError: If a full-size base is asked for without weights.
        FileNotFoundError: If the weights are not there.
    """
    text = load_text(base, weights, gemma=gemma)
    return Components(load_transformer(base, weights), load_codecs(base, weights), text)


def load_transformer(base: PresetName, weights: str | Path | None = None) -> LTX2:
    """Load the transformer of a base model alone; see `load_components`."""
    if base == "nano":
        return LTX2.from_pretrained(weights or ASSETS / "base.safetensors", "nano")
    if base == "smoke" and weights is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return LTX2.from_preset("smoke")
    return LTX2.from_pretrained(_transformer_path(_required(base, weights)), base)


def load_codecs(base: PresetName, weights: str | Path | None = None) -> ClipCodecs:
    """Load the codecs of a base model alone; see `load_components`."""
    if base == "nano":
        return NanoCodecs()
    if base == "smoke" and weights is None:
        return Codecs.from_preset("smoke")
    codecs = Codecs.from_pretrained(_required(base, weights), preset=base)
    codecs.video.to(preset_named(base).dtype)  # the audio networks stay float32, as in the authors' data preparation
    return codecs


def load_text(
    base: PresetName,
    weights: str | Path | None = None,
    *,
    gemma: str | Path | None = None,
    with_language_model: bool = True,
) -> PromptEncoder:
    """Load the text encoder of a base model alone; training on stored features needs no language model.

    Gemma and the connectors of a full-size base are bfloat16, as in the released code.
    """
    if base == "nano":
        return NanoTextEncoder()
    if base == "smoke" and weights is None:
        return TextEncoder.from_preset("smoke")
    return TextEncoder.from_pretrained(
        _required(base, weights),
        preset=base,
        gemma=gemma,
        dtype=preset_named(base).dtype,
        with_language_model=with_language_model,
    )


def refuse_missing_checkpoint(base: PresetName, weights: str | Path | None, gemma: str | Path | None) -> None:
    """Make sure that the codecs and the text encoder of a base model are there, in seconds; nothing is loaded.

    Raises:
        ValueError: If a full-size base has no weights, or a part of the checkpoint is missing.
        FileNotFoundError: If the weights are not there.
    """
    if base == "nano" or (base == "smoke" and weights is None):
        return
    path = _required(base, weights)
    if path.is_file():
        SingleFile.opened(path)
    else:
        require_components(path, CODEC_PARTS)
    refuse_missing_text(path, gemma)


def attach_adapter(model: LTX2, path: str | Path, in_context: InContext | None = None) -> InContext:
    """Attach an adapter file to a model; return the in-context recipe that the file tells.

    Args:
        model: The transformer, without an adapter.
        path: A safetensors file.
        in_context: The recipe of a file that tells none, such as the authors' files. A warning says when it is the
            default, which nobody may have chosen, and when another one than the default yields to that of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not fit the model, or tells no recipe and none is given.
    """
    metadata, default = load_adapter(model, path), InContext()
    if not any(name.startswith("in_context.") for name in metadata):
        if in_context is None:
            raise ValueError(f"{path}: tells no recipe; pass in_context, see docs/files.md for the authors' adapters")
        if in_context == default:
            warnings.warn(
                f"{path}: tells no recipe, so the default {default} is taken; the authors' adapters were made with "
                "another one: set in_context, or sampling.recipe to released",
                stacklevel=2,
            )
        return in_context
    try:
        told = InContext.from_metadata(metadata)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if in_context not in (None, default, told):
        warnings.warn(f"{path}: tells {told}, which replaces the configured {in_context}", stacklevel=2)
    return told


def _required(base: str, weights: str | Path | None) -> Path:
    if weights is None:
        raise ValueError(
            f"base '{base}' needs weights: set model.weights to a folder in the layout of the diffusers pipeline "
            "(transformer/ vae/ audio_vae/ vocoder/ connectors/ text_encoder/ tokenizer/), or to the authors' "
            "safetensors file with model.gemma beside it"
        )
    if not Path(weights).exists():
        raise FileNotFoundError(f"weights of base '{base}' not found: {weights} does not exist; correct model.weights")
    return Path(weights)


def _transformer_path(weights: Path) -> Path:
    folder = weights / "transformer"
    return folder if folder.is_dir() else weights
