"""Prompt -> text features -> text context of LTX-2.

Letters: B prompts, L text tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors

from idlora_pl.ltx2.connector_loading import load_connectors
from idlora_pl.ltx2.connectors import connect_features, project_features, smoke_connectors
from idlora_pl.ltx2.language_model import LanguageModel, find_language_model
from idlora_pl.ltx2.movable import Movable
from idlora_pl.ltx2.presets import preset_named
from idlora_pl.ltx2.pretrained import Folder, require_components
from idlora_pl.ltx2.text_presets import ConnectorPreset
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
