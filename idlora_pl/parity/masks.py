"""Masks that cases store densely, and the recipe flags that stand for them.

Letters: B batch, Nv video tokens, Na audio tokens, L text tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from idlora_pl.ltx2.attention import text_bias
from idlora_pl.method.tokens import AVSequence, HiddenText
from idlora_pl.parity.cases import Case

_FILL = -1e29
"""Additive mask values below this hide: finfo.min of float32 and bfloat16, and -inf."""


def hidden(case: Case, name: str, *shape: int) -> Tensor:
    """Return where an additive mask hides, as bool.

    Raises:
        CaseError: when it holds anything but 0 and values that hide. A fill such as -10000 only weakens, and no
            recipe stands for it (spec section 0.4).
    """
    mask = case.tensor(name, *shape)
    if not mask.is_floating_point():
        raise case.wrong_tensor(name, f"is {mask.dtype}; it must be an additive mask of floats")
    hides = (mask < _FILL) | (mask == torch.finfo(mask.dtype).min)
    other = mask[~hides & (mask != 0)]
    if other.numel():
        raise case.wrong_tensor(name, f"holds {other[0].item():g}; it must hold 0 (seen) and finfo.min (hidden) alone")
    return hides


def video_sees_reference(case: Case, name: str, shape: tuple[int, int, int], n_reference: int) -> bool:
    """Return the flag that an audio-to-video mask (B, Nv, Na) stands for; without a mask everything is seen."""
    if not case.has(name):
        return True
    hides = hidden(case, name, *shape)
    if not hides.any():
        return True
    pattern = torch.zeros_like(hides)
    pattern[:, :, :n_reference] = True
    if not torch.equal(hides, pattern):
        raise case.wrong_tensor(name, f"must hide nothing, or the {n_reference} reference tokens from all video tokens")
    return False


def reference_sees_text(
    case: Case, name: str, padding: Tensor, shape: tuple[int, int, int], n_reference: int
) -> tuple[bool, HiddenText]:
    """Return the flags that an audio-to-text mask (B, Na, L) stands for; without a mask everything is seen.

    Args:
        case: holds the mask.
        name: of the mask.
        padding: (B, L) bool, text tokens that nobody sees.
        shape: (B, Na, L).
        n_reference: how many audio tokens are the reference.
    """
    if not case.has(name):
        return True, "uniform"
    hides = hidden(case, name, *shape)
    plain = padding[:, None].expand(shape)
    if torch.equal(hides, plain):
        return True, "uniform"
    pattern = plain.clone()
    pattern[:, :n_reference] = True
    if not torch.equal(hides, pattern):
        raise case.wrong_tensor(
            name, f"must hide padding alone, or also all text from the {n_reference} reference tokens"
        )
    return False, "nothing" if case.tensor(name)[:, :n_reference].isneginf().any() else "uniform"


def hidden_keys(av: AVSequence) -> Tensor:
    """Return which audio tokens are hidden from which video tokens, (B, Nv, Na) bool."""
    batch, n_audio, _ = av.audio.latents.shape
    hides = torch.zeros(batch, av.video.n_tokens, n_audio, dtype=torch.bool)
    if not av.video_sees_reference:
        hides[:, :, : av.audio.n_reference] = True
    return hides


def hidden_text(av: AVSequence) -> Tensor:
    """Return which text tokens are hidden from which audio tokens, (B, Na, L) bool."""
    batch, n_audio, _ = av.audio.latents.shape
    _, bias = text_bias(av, torch.float32)
    hides = torch.zeros(batch, n_audio, av.text.audio.shape[1], dtype=torch.bool)
    return hides if bias is None else hides | (bias < _FILL)
