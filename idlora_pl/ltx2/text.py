"""Prompt -> text features -> text context of LTX-2.

The frozen connectors are around diffusers' `LTX2TextConnectors`, whose `forward` does both steps at once; here they are
apart, because shards store what lies between them.
Letters: B prompts, L text tokens (left-padded), D width of the language model, K its hidden states (layers + 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Self

import torch
from diffusers.pipelines.ltx2.connectors import (
    LTX2TextConnectors,
    per_layer_masked_mean_norm,
    per_token_rms_norm,
)
from torch import Tensor

from idlora_pl.ltx2.checkpoint import Folder, Movable, check_config, load_component, read_config, require_components
from idlora_pl.ltx2.language_model import LanguageModel, find_language_model
from idlora_pl.ltx2.presets import ConnectorPreset, connector_preset_named, preset_named, smoke_connector_preset
from idlora_pl.ltx2.single_file import SingleFile, load_part
from idlora_pl.method.tokens import TextContext, TextFeatures


def refuse_missing_text(path: Folder, gemma: Folder | None, *, with_language_model: bool = True) -> None:
    """Make sure that a checkpoint has what a text encoder is loaded from; nothing is loaded.

    Args:
        path: A diffusers checkpoint folder, or the authors' file.
        gemma: Folder of the language model; None takes that of the checkpoint folder.
        with_language_model: Whether one is needed.

    Raises:
        ValueError: If a part is missing.
    """
    in_folder = with_language_model and gemma is None
    if with_language_model and gemma is not None:
        find_language_model(Path(gemma))
    if not Path(path).is_file():
        require_components(path, ("connectors", "text_encoder") if in_folder else ("connectors",))
        if in_folder:
            require_components(path, ("tokenizer",), marker="tokenizer_config.json")
    elif in_folder:
        raise ValueError(
            f"{path}: the authors' file holds no language model; pass gemma, the folder of Gemma 3 12B "
            "(config.json, weights and tokenizer), in the configuration as model.gemma"
        )


class TextEncoder(Movable):
    """Gemma 3 and the frozen text connectors of a base model; every call is without gradients.

    Args:
        language_model: Turns prompts into hidden states; None for training on stored features, which needs
            only `connect`.
        connectors: The diffusers connectors of the base model; their config says which layout it is.

    Example:
        >>> text = TextEncoder.from_preset("smoke")
        >>> features = text.encode(["[VISUAL]: a man [SPEECH]: hello [SOUNDS]: wind"])
        >>> features.video.shape, text.connect(features).audio.shape
        (torch.Size([1, 256, 24]), torch.Size([1, 256, 24]))
    """

    def __init__(self, language_model: LanguageModel | None, connectors: LTX2TextConnectors) -> None:
        super().__init__()
        config = connectors.config
        registers = (
            config["video_connector_num_learnable_registers"],
            config["audio_connector_num_learnable_registers"],
        )
        if None in registers:
            raise ValueError("connectors: num_learnable_registers is None; LTX-2 needs connectors with registers")
        if language_model is not None:
            wanted = (config["caption_channels"], config["text_proj_in_factor"])
            got = (language_model.width, language_model.n_hidden_states)
            if wanted != got:
                raise ValueError(
                    f"connectors take {wanted[1]} hidden states of {wanted[0]} channels, the text encoder "
                    f"gives {got[1]} of {got[0]}: load both from one checkpoint"
                )
            if any(language_model.max_length % n for n in registers):
                raise ValueError(
                    f"max_length {language_model.max_length} must be a multiple of the connectors' "
                    f"{registers} learned registers: choose another one"
                )
        self.language_model, self.connectors = language_model, connectors
        self.eval().requires_grad_(False)

    @classmethod
    def from_preset(cls, name: str, seed: int = 0, device: str | torch.device | None = None) -> Self:
        """Build a random text encoder; only "smoke" exists, as Gemma's tokenizer is not ours to ship.

        Args:
            name: "smoke": two layers, text context of the width that the smoke transformer takes.
            seed: Fixes the weights; torch's global generator is left as it was.
            device: Where to build; None is the CPU.

        Raises:
            ValueError: For every other name.
        """
        if name != "smoke":
            raise ValueError(f"text preset must be smoke; got {name!r}: load released weights with from_pretrained")
        width, _ = preset_named(name).text_channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            language_model = LanguageModel.smoke(width)
            connectors = smoke_connectors(width, language_model.n_hidden_states)
        return cls(language_model, connectors).to(device or "cpu")

    @classmethod
    def from_pretrained(
        cls,
        path: Folder,
        *,
        preset: str | ConnectorPreset | None = None,
        gemma: Folder | None = None,
        dtype: torch.dtype | None = None,
        with_language_model: bool = True,
    ) -> Self:
        """Load the connectors and the language model of a checkpoint; no network access.

        Args:
            path: A diffusers checkpoint folder with `connectors/`, or the authors' file.
            preset: The base model that they should belong to; None takes what a folder's config says.
            gemma: Folder of the language model; see `LanguageModel.from_pretrained`. None takes `text_encoder/` and
                `tokenizer/` of the checkpoint folder; the authors' file has no language model.
            dtype: Of the weights; None is float32.
            with_language_model: False loads the connectors alone, enough to train on stored features.

        Raises:
            ValueError: If a part is missing, or is not that of the preset.
        """
        refuse_missing_text(path, gemma, with_language_model=with_language_model)
        connectors = load_connectors(path, preset, dtype)
        language_model = LanguageModel.from_pretrained(gemma or path, dtype=dtype) if with_language_model else None
        return cls(language_model, connectors)

    def save_pretrained(self, folder: Folder) -> None:
        """Write the parts as a diffusers checkpoint folder."""
        self.connectors.save_pretrained(str(Path(folder) / "connectors"))
        if self.language_model is not None:
            self.language_model.save_pretrained(folder)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """Encode B prompts to text features (B, L, ...), what shards store; outer white space is dropped.

        Raises:
            ValueError: If there is no language model, or no prompt.
        """
        if self.language_model is None:
            raise ValueError("this text encoder has connectors only; load it with with_language_model=True to encode")
        hidden_states, mask = self.language_model(prompts)
        return project_features(self.connectors, hidden_states, mask)

    @torch.no_grad()
    def connect(self, features: TextFeatures) -> TextContext:
        """Run the connectors; every position of the result is valid: registers fill the padding.

        Autocast is off for them, in training as in sampling (spec section 3.6).
        """
        with torch.autocast(self.device.type, enabled=False):
            return connect_features(self.connectors, features)


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


def load_connectors(
    path: Folder, preset: str | ConnectorPreset | None, dtype: torch.dtype | None
) -> LTX2TextConnectors:
    """Load the text connectors.

    Args:
        path: A diffusers checkpoint folder with `connectors/`, or the authors' file.
        preset: What they should be; None takes what a folder's config says.
        dtype: Of the weights; None is float32.

    Raises:
        ValueError: If they are missing or not those of the preset, or a file comes without a preset.
    """
    name = preset if isinstance(preset, str) else "given"
    wanted = connector_preset_named(preset) if isinstance(preset, str) else preset
    if not Path(path).is_file():
        if wanted is not None:
            place = Path(path) / "connectors"
            check_config(place, read_config(path, "connectors"), LTX2TextConnectors, wanted, name)
        return load_component(LTX2TextConnectors, path, "connectors", dtype)
    if wanted is None:
        raise ValueError(f"{path}: a single file does not say how to build its connectors; pass preset")
    with torch.device("meta"):
        connectors = LTX2TextConnectors(**wanted)
    load_part(SingleFile.opened(Path(path)), "connectors", connectors, name, dtype)
    return connectors
