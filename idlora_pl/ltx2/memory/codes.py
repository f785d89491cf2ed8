"""Weights of frozen linears in few bits: how they are written, and how they are read back.

Letters: O outputs of a linear, I its inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

Level = Literal["bf16", "int8", "fp8", "nf4"]
"""How the frozen weights are kept; "bf16" means as they are, in the dtype of the base."""

NF4_BLOCK = 64
"""How many weights, in reading order, share one scale in nf4."""

# The sixteen levels of 4-bit NormalFloat (QLoRA, arXiv:2305.14314, appendix E), exact in float32.
NF4_LEVELS = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
_LARGEST = {"int8": 127.0, "fp8": 448.0}


@dataclass(frozen=True)
class Coded:
    """A weight (O, I) as it is kept.

    Attributes:
        codes: the weight itself (bf16), (O, I) int8 (int8), (O, I) float8_e4m3fn (fp8), or (O, I / 2) uint8 with the
            earlier weight in the lower four bits (nf4).
        scales: (O, 1) float32 for int8 and fp8, (O * I / 64,) bfloat16 for nf4, None for bf16.
    """

    codes: Tensor
    scales: Tensor | None


def encode(weight: Tensor, level: Level) -> Coded:
    """Write a weight (O, I) in the bits of a level, on the device where it lies.

    Codes are chosen for the scales as they are kept, so rounding a scale costs nothing beyond itself. The error of a
    weight is at most half a scale (int8), 1/16 of the weight or 2^-10 of a scale (fp8), or half the gap between two
    levels times the scale (nf4).

    Raises:
        ValueError: when a number is not finite, or nf4 cannot divide the weight into blocks.
    """
    if level == "bf16":
        return Coded(weight, None)
    if not weight.is_meta and not weight.isfinite().all():
        raise ValueError(
            f"a weight of shape {tuple(weight.shape)} holds nan or infinity and cannot be kept as {level}; "
            "load the base model again from a whole file"
        )
    return _encode_nf4(weight) if level == "nf4" else _encode_rows(weight, level)


def _encode_rows(weight: Tensor, level: Level) -> Coded:
    largest = _LARGEST[level]
    # a row of zeros, or of numbers that float32 cannot divide, becomes zeros
    scales = (weight.abs().amax(dim=1, keepdim=True).float() / largest).clamp_min(torch.finfo(torch.float32).tiny)
    codes = (weight / scales).clamp_(-largest, largest)
    return Coded(codes.round_().to(torch.int8) if level == "int8" else codes.to(torch.float8_e4m3fn), scales)


def _encode_nf4(weight: Tensor) -> Coded:
    n_outputs, n_inputs = weight.shape
    if weight.numel() % NF4_BLOCK or n_inputs % 2:
        raise ValueError(
            f"nf4 needs an even number of inputs and weights in blocks of {NF4_BLOCK}; a linear has {n_outputs} x "
            f"{n_inputs} weights: choose int8 or fp8"
        )
    blocks = weight.reshape(-1, NF4_BLOCK)
    tiny = torch.finfo(torch.bfloat16).tiny
    scales = blocks.abs().amax(dim=1).bfloat16().clamp_min(tiny)
    levels = torch.tensor(NF4_LEVELS, dtype=torch.float32, device=weight.device)
    edges = levels[:-1] + levels.diff() / 2
    nearest = torch.bucketize(blocks / scales[:, None].float(), edges, out_int32=True)
    codes = nearest.to(torch.uint8).view(n_outputs, n_inputs // 2, 2)
    return Coded(codes[..., 0] | codes[..., 1] << 4, scales)


def nf4_pairs(device: torch.device | str | None = None) -> Tensor:
    """What each byte of nf4 codes means: (256, 2) float32, the earlier weight first."""
    byte = torch.arange(256, device=device)
    levels = torch.tensor(NF4_LEVELS, dtype=torch.float32, device=device)
    return torch.stack([levels[byte & 15], levels[byte >> 4]], dim=1)


def decode(codes: Tensor, scales: Tensor | None, pairs: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Read a weight back.

    No intermediate is wider than the result: on CUDA a scale is multiplied in the kernel that widens the codes, and
    bytes of nf4 pick pairs of values that lie side by side.

    Args:
        codes: see `Coded`.
        scales: see `Coded`; None returns the codes, which are the weight itself.
        pairs: `nf4_pairs` on the device of the codes, for nf4 alone.
        dtype: of the result; sums of products are rounded to it once.

    Returns:
        (O, I) in the dtype.
    """
    if scales is None:
        return codes
    if pairs is not None:
        whole = torch.int32 if dtype.itemsize == 2 else torch.int64  # both values of a pair at once
        picked = pairs.to(dtype).view(whole).flatten().index_select(0, codes.flatten().int())
        blocks = picked.view(dtype).view(-1, NF4_BLOCK).mul_(scales[:, None])
        return blocks.view(codes.shape[0], -1)
    if codes.dtype == torch.int8:
        return torch.mul(codes, scales, out=torch.empty(codes.shape, dtype=dtype, device=codes.device))
    return codes.to(dtype).mul_(scales)


def fused(codes: Tensor, scales: Tensor | None, pairs: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Do what `decode` does in one kernel for fp8 and nf4, too, compiled when it is first called.

    A weight is then read in its few bits and written once.

    Raises:
        RuntimeError: when it cannot be compiled here.
    """
    if scales is None or codes.dtype == torch.int8:
        return decode(codes, scales, pairs, dtype)
    # one state of torch for every caller: each other one would be compiled anew, up to a limit
    with torch.no_grad(), torch.autocast(codes.device.type, enabled=False):
        if pairs is None:
            return _compiled(_scaled_rows)(codes, scales, dtype)
        picked = _compiled(_scaled_pairs)(codes.view(-1, NF4_BLOCK // 2), scales, pairs.to(dtype))
        return picked.view(codes.shape[0], -1)


@cache
def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.compile(function)


def _scaled_rows(codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    return (codes.float() * scales).to(dtype)


def _scaled_pairs(codes: Tensor, scales: Tensor, pairs: Tensor) -> Tensor:
    return pairs[codes.int()].flatten(1) * scales[:, None]
