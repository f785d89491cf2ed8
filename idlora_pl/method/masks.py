"""Who sees the prompt: additive biases of the attention towards the text.

Letters: B batch, N queries, L text tokens.
"""

import torch
from torch import Tensor

from idlora_pl.method.tokens import AVSequence, HiddenText

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
