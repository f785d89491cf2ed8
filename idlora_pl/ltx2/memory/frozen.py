"""Linears whose weight is frozen and kept in few bits; forward and backward read it anew and keep nothing."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from idlora_pl.ltx2.memory.codes import Level, decode, encode, fused, nf4_pairs
from idlora_pl.ltx2.transformer import LTX2

_STAYING = "to_gate_logits"  # 32 outputs of LTX-2.3 that open and close whole heads: 0.2 % of the weights

CODED = ("qweight", "scales")
"""Buffers of a frozen linear that hold its weight."""

Decoder = Callable[[Tensor, Tensor | None, Tensor | None, torch.dtype], Tensor]
"""`decode` or `fused`."""


class _CodedLinear(torch.autograd.Function):
    """x @ weight.T + bias with a coded weight; what is saved for backward are references to the codes."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bias: Tensor | None,
        codes: Tensor,
        scales: Tensor | None,
        pairs: Tensor | None,
        decoder: Decoder,
    ) -> Tensor:
        """Multiply (..., I) with the weight that is read for it."""
        ctx.save_for_backward(codes, scales, pairs)
        ctx.decoder = decoder
        return functional.linear(x, decoder(codes, scales, pairs, x.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the input alone; the weight is read anew."""
        codes, scales, pairs = ctx.saved_tensors
        weight = ctx.decoder(codes, scales, pairs, grad.dtype)
        # one product of matrices, as autograd does it for an ordinary linear
        grad_x = (grad.reshape(-1, grad.shape[-1]) @ weight).view(*grad.shape[:-1], weight.shape[1])
        return grad_x, None, None, None, None, None


class FrozenLinear(nn.Linear):
    """A linear that is never trained: coded weight, ordinary bias; to peft and to our checks it is an `nn.Linear`.

    It computes in the dtype of its input, or of autocast. `to(dtype)` changes the bias alone.

    Attributes:
        level: how the weight is kept.
        qweight: its codes; peft takes the device of an adapter from this name.
        scales: of the codes, or None.
        pairs: what a byte of nf4 codes means, or None.
        host: codes and scales of a weight that only visits the device (see `BlockSwap`), by name; None for others.
            `qweight` and `scales` are then places that blocks share, which `to` and its kin do not touch.
        decoder: what reads the weight.
    """

    qweight: Tensor
    scales: Tensor | None
    pairs: Tensor | None

    def __init__(self, linear: nn.Linear, level: Level, device: torch.device | str | None = None) -> None:
        """Keep the weight of a linear at a level.

        Args:
            linear: what is replaced; for "bf16" its weight is shared.
            level: how the weight is kept.
            device: where it is coded and stays; None means where it lies.
        """
        nn.Module.__init__(self)  # without the parameter that nn.Linear would make
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.level, self.dtype = level, linear.weight.dtype
        self.host: dict[str, Tensor] | None = None
        self.decoder: Decoder = decode
        bias = None if linear.bias is None else linear.bias.detach().to(device)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)  # type: ignore[assignment]
        coded = encode(linear.weight.detach().to(device), level)
        self.register_buffer("qweight", coded.codes)
        self.register_buffer("scales", coded.scales)
        pairs = nf4_pairs(self.qweight.device) if level == "nf4" else None
        self.register_buffer("pairs", pairs, persistent=False)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The weight (O, I) in the dtype that it was given in, read anew at each access."""
        own = {name: getattr(self, name) for name in CODED} if self.host is None else self.host
        codes, scales = (None if own.get(name) is None else own[name].to(self.qweight.device) for name in CODED)
        assert codes is not None  # every linear has codes
        return self.decoder(codes, scales, self.pairs, self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., I) to (..., O)."""
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self.scales is None:
            return functional.linear(x, self.qweight, bias)
        return _CodedLinear.apply(x, bias, self.qweight, self.scales, self.pairs, self.decoder)

    def extra_repr(self) -> str:
        """Sizes and level."""
        return f"{super().extra_repr()}, level={self.level}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FrozenLinear":
        """Move the codes, but never cast them."""
        kept = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        for name in kept:
            self._buffers[name] = None
        super()._apply(fn, recurse)
        for name, buffer in kept.items():
            if self.host is not None and name in CODED:
                moved = buffer
            elif self.level == "bf16":
                moved = fn(buffer)
            else:
                moved = fn(buffer.view(torch.uint8)).view(buffer.dtype)
            self._buffers[name] = moved
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination.update({prefix + name: tensor for name, tensor in (self.host or {}).items()})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if self.host is not None and any(prefix + name in state_dict for name in CODED):
            raise ValueError(
                f"{prefix}qweight: its block is swapped; load the base model before its blocks are swapped"
            )
        super()._load_from_state_dict(state_dict, prefix, *rest)


def refuse_frozen(model: LTX2) -> None:
    """Raise ValueError when linears of the model are coded already."""
    coded = next((each for each in model.modules() if isinstance(each, FrozenLinear)), None)
    if coded is not None:
        raise ValueError(f"the model's frozen weights are kept as {coded.level} already; load it anew to change that")


def freeze_base(module: nn.Module) -> None:
    """Let no gradient be computed for any weight that is not a LoRA's."""
    for name, weight in module.named_parameters():
        if ".lora_" not in name:
            weight.requires_grad_(False)


def freeze_linears(block: nn.Module, level: Level, device: torch.device | str | None = None) -> None:
    """Replace the linears of one block, those inside LoRA layers too, by frozen ones at a level."""
    for name, linear in list(base_linears(block)):
        parent, _, own = name.rpartition(".")
        setattr(block.get_submodule(parent), own, FrozenLinear(linear, level, device))


def base_linears(block: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The linears of a block that a level applies to, by name: not those of a LoRA, and no gates."""
    for name, module in block.named_modules():
        if isinstance(module, nn.Linear) and ".lora_" not in name and _STAYING not in name:
            yield name, module


@torch.no_grad()
def fuse(model: nn.Module) -> bool:
    """Let frozen linears of fp8 and nf4 read their weights in one compiled kernel, if that gives the same numbers here.

    It is tried on one linear of each size; when it cannot be compiled or differs, a warning says so and nothing
    changes. It takes about ten seconds.

    Returns:
        Whether it is used.
    """
    linears = [module for module in model.modules() if isinstance(module, FrozenLinear)]
    sizes = {(linear.level, linear.out_features, linear.in_features): linear for linear in linears}
    try:
        for linear in sizes.values():
            expected = linear.weight
            linear.decoder = fused
            if not torch.equal(linear.weight, expected):
                raise RuntimeError(f"its numbers differ for {linear}")
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        warnings.warn(f"frozen weights are read without a compiled kernel, which is slower ({reason})", stacklevel=2)
        for linear in linears:
            linear.decoder = decode
        return False
    for linear in linears:
        linear.decoder = fused
    return True
