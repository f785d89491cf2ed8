"""The memory settings of a training in one group, and how they are applied to a base model."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import nn

from idlora_pl.ltx2.memory.checkpointing import Checkpointing, recomputed_blocks, set_checkpointing, spread
from idlora_pl.ltx2.memory.codes import Level
from idlora_pl.ltx2.memory.frozen import freeze_base, freeze_linears, fuse, refuse_frozen
from idlora_pl.ltx2.memory.swap import N_SLOTS, BlockSwap, Link
from idlora_pl.ltx2.transformer import LTX2


@dataclass(frozen=True)
class Memory:
    """What is done to need less memory; the defaults change no number and keep every weight on the device.

    Attributes:
        weights: how the frozen linears of the blocks are kept: "bf16" (as the base has them), "int8", "fp8" or "nf4".
        swap_blocks: how many blocks keep their frozen linears in the host's memory and visit the device when needed.
            Two of them are on the device at any time, so 3 is the least that saves anything.
        checkpointing: which blocks compute their activations again in the backward pass: "none", "all", or a share
            between 0 and 1. Swapped blocks are among them.

    Raises:
        ValueError: when a value is no choice, or blocks are swapped and none is computed again.

    Example:
        >>> Memory(weights="int8", swap_blocks=24)
        Memory(weights='int8', swap_blocks=24, checkpointing='all')
    """

    weights: Level = "bf16"
    swap_blocks: int = 0
    checkpointing: Checkpointing = "all"

    def __post_init__(self) -> None:
        """Refuse a value that is no choice."""
        if self.weights not in get_args(Level):
            raise ValueError(f"memory.weights must be one of {', '.join(get_args(Level))}; got {self.weights!r}")
        whole = isinstance(self.swap_blocks, int) and not isinstance(self.swap_blocks, bool)
        if not whole or self.swap_blocks < 0 or 0 < self.swap_blocks <= N_SLOTS:
            raise ValueError(
                f"memory.swap_blocks must be 0, or {N_SLOTS + 1} and more, because {N_SLOTS} of the swapped blocks are "
                f"on the device at any time; got {self.swap_blocks!r}"
            )
        share = self.checkpointing
        named = share in ("none", "all") if isinstance(share, str) else not isinstance(share, bool) and 0 < share < 1
        if not named:
            raise ValueError(
                f"memory.checkpointing must be none, all or a share between 0 and 1; got {self.checkpointing!r}"
            )
        if self.swap_blocks and share == "none":
            raise ValueError(
                f"memory.swap_blocks {self.swap_blocks} needs blocks that are computed again, and "
                "memory.checkpointing is none; set it to all"
            )

    def without_recomputing(self) -> "Memory":
        """Return these settings with no block computed again, which is what gradient_checkpointing false asks for.

        Raises:
            ValueError: when these settings ask for blocks that are.
        """
        asked = {"swap_blocks": self.swap_blocks, "checkpointing": self.checkpointing}
        for name, value in asked.items():
            if value not in (0, "none", "all"):  # all is the default, so nobody may have asked for it
                raise ValueError(
                    f"memory.{name} {value} needs blocks that are computed again, and gradient_checkpointing is "
                    "false; set model.gradient_checkpointing to true"
                )
        return replace(self, checkpointing="none")

    @property
    def is_plain(self) -> bool:
        """Whether weights stay as they are, on the device."""
        return self.weights == "bf16" and not self.swap_blocks


def swapped_blocks(memory: Memory, n_blocks: int) -> list[int]:
    """Which blocks are swapped: at even distances, so that each has the most time to arrive, among the recomputed.

    Raises:
        ValueError: when there are not as many.

    Example:
        >>> swapped_blocks(Memory(swap_blocks=4), 8)
        [0, 2, 4, 6]
    """
    recomputed = recomputed_blocks(n_blocks, memory.checkpointing)
    if memory.swap_blocks > len(recomputed):
        raise ValueError(
            f"memory.swap_blocks must be at most {len(recomputed)}, the blocks of this base that memory.checkpointing "
            f"{memory.checkpointing} computes again; got {memory.swap_blocks}"
        )
    return spread(recomputed, memory.swap_blocks)


def apply_memory(
    model: LTX2,
    memory: Memory,
    device: torch.device | str,
    *,
    fill: Callable[[nn.Module], None] | None = None,
) -> BlockSwap | None:
    """Bring a base model to a device under memory settings, block by block, and freeze it.

    This takes the place of `model.to(device)`: the device never holds more than the model in its final form and one
    block more, and the host only what is swapped beside what the model already had there (weights that
    `LTX2.from_pretrained` maps from a file are read when their block's turn comes). It may be called before or after
    `attach_lora`; LoRA weights move to the device as they are. Afterwards `model.to` moves and casts everything but
    the swapped weights, so leave the model on its device.

    Args:
        model: the base model with weights anywhere, or on "meta" if `fill` makes them.
        memory: what to do.
        device: where the model computes.
        fill: called with each block, and at last with the transformer, before they are moved; it must make what lies
            on "meta" real, on the device or on the host.

    Returns:
        What swaps the blocks, with its counts; None when nothing is swapped.

    Raises:
        ValueError: when the settings do not fit the model, a weight is not finite or does not fit the level, or the
            linears are coded already.

    Example:
        >>> model = LTX2.from_preset("smoke")
        >>> apply_memory(model, Memory("nf4"), "cpu")
        >>> model.transformer.transformer_blocks[0].ff.net[2].qweight.shape
        torch.Size([32, 64])
    """
    transformer, device = model.transformer, torch.device(device)
    blocks = transformer.transformer_blocks
    swapped = swapped_blocks(memory, len(blocks))
    refuse_frozen(model)
    freeze_base(model)
    swap = BlockSwap(transformer, Link(device)) if swapped else None
    for number, block in enumerate(blocks):
        if fill is not None:
            fill(block)
        if memory.weights != "bf16":
            freeze_linears(block, memory.weights, device)
        elif number in swapped:
            freeze_linears(block, memory.weights)
        if swap is not None and number in swapped:
            swap.take(number)
        block.to(device)
    if fill is not None:
        fill(transformer)
    model.to(device)
    set_checkpointing(model, memory.checkpointing)
    if device.type == "cuda" and memory.weights in ("fp8", "nf4"):
        fuse(model)
    return swap
