"""Attention processors that obey notes travelling with a call: who is heard, and which attention is perturbed.

The transformer hands rotary embeddings through its blocks to the attention processors untouched.
`NotedRotary` is such an embedding with notes on it, so a processor needs no state of its own: gradient
checkpointing replays a call with the notes of that call, whatever ran in between. Who sees the prompt is an additive
bias of the attention towards the text.

Letters: B batch, N queries, C channels, L text tokens.
"""

from collections.abc import Iterable
from typing import Literal, Protocol

import torch
from torch import Tensor

from idlora_pl.method.guidance import UNPERTURBED, Modality, Perturbation
from idlora_pl.method.tokens import AVSequence, HiddenText

Rotary = tuple[Tensor, Tensor]


class NotedRotary(tuple[Tensor, Tensor]):
    """A rotary embedding (cos, sin) that carries notes for attention processors.

    Attributes:
        hidden_keys: how many leading keys `HideKeys` removes.
        perturbation: what `PerturbSelfAttention` does.
    """

    hidden_keys: int
    perturbation: Perturbation

    def __new__(
        cls, rotary: Iterable[Tensor], hidden_keys: int = 0, perturbation: Perturbation = UNPERTURBED
    ) -> "NotedRotary":
        """Put the notes on a (cos, sin) pair."""
        noted = super().__new__(cls, tuple(rotary))
        noted.hidden_keys = hidden_keys
        noted.perturbation = perturbation
        return noted


class Processor(Protocol):
    """What computes one attention: a diffusers attention processor."""

    def __call__(
        self,
        attn: torch.nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        query_rotary_emb: Rotary | None = None,
        key_rotary_emb: Rotary | None = None,
    ) -> Tensor:
        """Return the attention output, (B, N, C)."""
        ...


class _Wrapper:
    """An attention processor around another one; the choice of attention backend goes to the inner one."""

    def __init__(self, inner: Processor) -> None:
        self.inner = inner

    @property
    def _attention_backend(self) -> object:
        return self.inner._attention_backend  # type: ignore[attr-defined]

    @_attention_backend.setter
    def _attention_backend(self, backend: object) -> None:
        self.inner._attention_backend = backend  # type: ignore[attr-defined]

    @property
    def _parallel_config(self) -> object:
        return self.inner._parallel_config  # type: ignore[attr-defined]

    @_parallel_config.setter
    def _parallel_config(self, config: object) -> None:
        self.inner._parallel_config = config  # type: ignore[attr-defined]


class HideKeys(_Wrapper):
    """Audio-to-video attention from which the first keys can be removed.

    Removing a key equals masking it (to 1.3e-6 in float32) and needs no mask: flash attention stays on.
    """

    def __call__(
        self,
        attn: torch.nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        query_rotary_emb: Rotary | None = None,
        key_rotary_emb: Rotary | None = None,
    ) -> Tensor:
        """Return the attention output, (B, N, C)."""
        if isinstance(key_rotary_emb, NotedRotary) and encoder_hidden_states is not None:
            cut = key_rotary_emb.hidden_keys
            cos, sin = key_rotary_emb
            encoder_hidden_states = encoder_hidden_states[:, cut:]
            # (B, heads, keys, width), or (B, keys, width) in the interleaved layout
            key_rotary_emb = (cos[..., cut:, :], sin[..., cut:, :])
        return self.inner(attn, hidden_states, encoder_hidden_states, attention_mask, query_rotary_emb, key_rotary_emb)


class BlindQueries(_Wrapper):
    """Audio-to-text attention whose output is exactly 0 for queries that see nothing (a mask row of -inf)."""

    def __call__(
        self,
        attn: torch.nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        query_rotary_emb: Rotary | None = None,
        key_rotary_emb: Rotary | None = None,
    ) -> Tensor:
        """Return the attention output, (B, N, C)."""
        rotary = (query_rotary_emb, key_rotary_emb)
        if attention_mask is None:
            return self.inner(attn, hidden_states, encoder_hidden_states, None, *rotary)
        blind = attention_mask.isneginf().all(dim=-1, keepdim=True)
        visible = attention_mask.masked_fill(blind, 0.0)
        output = self.inner(attn, hidden_states, encoder_hidden_states, visible, *rotary)
        return output.masked_fill(blind, 0.0)


class PerturbSelfAttention(_Wrapper):
    """Self-attention of one block and modality that is perturbed when the call's notes name them."""

    def __init__(self, inner: Processor, block: int, modality: Modality, remains: Literal["nothing", "values"]) -> None:
        """Wrap the processor of a modality in block number `block`.

        Args:
            inner: the processor; for "values" it must know diffusers' argument `all_perturbed`.
            block: the block's number.
            modality: whose self-attention it is.
            remains: what is left of a perturbed attention: "nothing", or its "values" (every token its own).
        """
        super().__init__(inner)
        self.block, self.modality, self.remains = block, modality, remains

    def __call__(
        self,
        attn: torch.nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        query_rotary_emb: Rotary | None = None,
        key_rotary_emb: Rotary | None = None,
        perturbation_mask: Tensor | None = None,
        all_perturbed: bool | None = None,
    ) -> Tensor:
        """Return the attention output, (B, N, C); diffusers' own perturbation arguments are not used."""
        arguments = (attn, hidden_states, encoder_hidden_states, attention_mask, query_rotary_emb, key_rotary_emb)
        perturbation = query_rotary_emb.perturbation if isinstance(query_rotary_emb, NotedRotary) else UNPERTURBED
        if not perturbation.reaches(self.block, self.modality):
            return self.inner(*arguments)
        if self.remains == "values":
            return self.inner(*arguments, all_perturbed=True)  # type: ignore[call-arg]
        return torch.zeros_like(hidden_states)


# As hidden as finfo.min: the softmax weight is 0 beside a visible key, and a row full of it is uniform.
# finfo.min itself overflows to -inf when it is cast from float32 to bfloat16 or multiplied by log2(e).
HIDDEN = -1e30


def text_bias(sequence: AVSequence, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
    """Additive attention biases towards the text.

    Reference rows that do not see the text hold `HIDDEN` everywhere for "uniform" (the authors' mask: they
    get the mean of all text values) and -inf everywhere for "nothing" (`BlindQueries` makes them zero).

    Args:
        sequence: names the text mask, the number of reference tokens and what they see.
        dtype: dtype of the biases.

    Returns:
        (B, 1, L) for video or None, (B, 1 or N, L) for audio or None; None means that everything is seen.
    """
    bias = None
    if sequence.text.mask is not None:
        bias = (~sequence.text.mask[:, None]).to(dtype) * HIDDEN
    n_reference = sequence.audio.n_reference
    if sequence.reference_sees_text or not n_reference:
        return bias, bias
    batch, n_audio, _ = sequence.audio.latents.shape
    n_text = sequence.text.audio.shape[1]
    rows = torch.zeros(batch, n_audio, n_text, dtype=dtype, device=sequence.audio.latents.device)
    if bias is not None:
        rows = rows + bias
    rows[:, :n_reference] = _hidden_value(sequence.hidden_text)
    return bias, rows


def _hidden_value(hidden_text: HiddenText) -> float:
    return HIDDEN if hidden_text == "uniform" else float("-inf")
