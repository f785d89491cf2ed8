"""Gemma 3 as LTX-2 reads it: every hidden state of left-padded prompts.

Letters: B prompts, L text tokens, D width, K hidden states (layers + 1).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from idlora_pl.ltx2.checkpoint import Folder, listed

MAX_TOKENS = 1024
_SMOKE_TOKENS = 256
_SPECIAL = ("<pad>", "<eos>", "<bos>")
_SMOKE_TEXT = (
    "[VISUAL]: a woman with short dark hair faces the camera in a bright kitchen, speaking calmly. "
    "[SPEECH]: the quick brown fox jumps over the lazy dog while we place the blue ring by nine again. "
    "[SOUNDS]: clear speech with no ambient sounds, a man talks on a quiet street, wind and distant traffic."
)


class LanguageModel(nn.Module):
    """A Gemma 3 model with its tokenizer.

    Args:
        tokenizer: Its tokenizer; prompts are padded on the left.
        gemma: The transformers model; its language head and vision tower are never run.
        max_length: L, the length every prompt is padded or cut to; None takes 1024 or the tokenizer's own
            limit, whichever is smaller.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        gemma: Gemma3ForConditionalGeneration,
        *,
        max_length: int | None = None,
    ) -> None:
        super().__init__()
        tokenizer.padding_side = "left"
        self.tokenizer, self.gemma = tokenizer, gemma
        self.max_length = max_length or min(MAX_TOKENS, tokenizer.model_max_length)

    @classmethod
    def smoke(cls, width: int) -> Self:
        """Build a Gemma 3 of two layers of `width` channels, random, with a byte-level tokenizer."""
        tokenizer = _train_tokenizer()
        text = {
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
        }
        vision = {
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 28,
            "patch_size": 14,
        }
        config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
        return cls(tokenizer, Gemma3ForConditionalGeneration(config))

    @classmethod
    def from_pretrained(cls, folder: Folder, *, dtype: torch.dtype | None = None) -> Self:
        """Load Gemma 3 with its tokenizer without network access.

        Args:
            folder: With `text_encoder/` and `tokenizer/` (diffusers), or with the files of both, as transformers
                and the Gemma release have them; a `tokenizer/` inside it is used, too.
            dtype: Of the weights; None is float32.

        Raises:
            ValueError: If the weights cannot be read, or do not fit their config.
        """
        path, tokens = find_language_model(Path(folder))
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(tokens), local_files_only=True)
            loaded: Any = Gemma3ForConditionalGeneration.from_pretrained(
                str(path), dtype=dtype or torch.float32, local_files_only=True, output_loading_info=True
            )
        except (OSError, RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"{path}: not a Gemma 3 model with its tokenizer ({reason}); copy the folder again"
            ) from error
        gemma, report = loaded
        wrong = {kind: report.get(f"{kind}_keys") for kind in ("missing", "unexpected", "mismatched")}
        found = [f"{len(keys)} {kind}: {listed(map(str, keys))}" for kind, keys in wrong.items() if keys]
        if found:
            raise ValueError(
                f"{path}: the weights are not those of its config.json ({'; '.join(found)}); copy it again"
            )
        return cls(tokenizer, gemma)

    def save_pretrained(self, folder: Folder) -> None:
        """Write `folder/tokenizer` and `folder/text_encoder`."""
        self.tokenizer.save_pretrained(str(Path(folder) / "tokenizer"))
        self.gemma.save_pretrained(str(Path(folder) / "text_encoder"))

    @property
    def width(self) -> int:
        """D, the width of a hidden state."""
        return self.gemma.config.get_text_config().hidden_size

    @property
    def n_hidden_states(self) -> int:
        """K, the embeddings and the output of every layer."""
        return self.gemma.config.get_text_config().num_hidden_layers + 1

    def forward(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return all hidden states (B, L, D, K) of prompts, and their mask (B, L) bool, True = token.

        A prompt that is too long loses its end, with a warning.
        """
        if isinstance(prompts, str) or not prompts:
            raise ValueError(f"prompts must be a list of at least one string; got {prompts!r}")
        texts = [prompt.strip() for prompt in prompts]
        longest = max(len(ids) for ids in self.tokenizer(texts).input_ids)
        if longest > self.max_length:
            warnings.warn(f"a prompt has {longest} tokens; those after {self.max_length} are dropped", stacklevel=2)
        inputs = self.tokenizer(
            texts, padding="max_length", max_length=self.max_length, truncation=True, return_tensors="pt"
        ).to(self.gemma.device)
        output = self.gemma.base_model(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            output_hidden_states=True,
            use_cache=False,
        )
        return torch.stack(output.hidden_states, dim=-1), inputs.attention_mask.bool()


def find_language_model(folder: Path) -> tuple[Path, Path]:
    """Return the folder of the model and that of its tokenizer.

    Raises:
        ValueError: If one of them is not there.
    """
    if (folder / "text_encoder").is_dir():
        model, tokens = folder / "text_encoder", folder / "tokenizer"
    else:
        model, tokens = folder, folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder
    if not (model / "config.json").is_file():
        raise ValueError(
            f"{folder}: neither text_encoder/ nor config.json; pass the folder of a Gemma 3 model with its tokenizer"
        )
    # without its files transformers would make up an empty tokenizer
    if not (tokens / "tokenizer_config.json").is_file() or not any(tokens.glob("tokenizer.*")):
        raise ValueError(f"{tokens}: no tokenizer_config.json with tokenizer.json or tokenizer.model; copy them there")
    return model, tokens


def _train_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level tokenizer on a fixed text; it knows every string, and starts each with <bos>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=list(_SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([_SMOKE_TEXT], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    pad, eos, bos = _SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        eos_token=eos,
        bos_token=bos,
        padding_side="left",
        model_max_length=_SMOKE_TOKENS,
    )
