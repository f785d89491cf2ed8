"""Which blocks compute their activations again in the backward pass instead of keeping them."""

import math
from collections.abc import Sequence
from typing import Literal, TypeVar

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from idlora_pl.ltx2.transformer import LTX2

Checkpointing = Literal["none", "all"] | float
"""Of no block, of all, or of a share of them between 0 and 1."""

Item = TypeVar("Item")


def spread(items: Sequence[Item], n: int) -> list[Item]:
    """Choose n items at even distances, the first always and the last only when all are chosen.

    Example:
        >>> spread(range(8), 3), spread(spread(range(8), 4), 2)
        ([0, 2, 5], [0, 4])
    """
    return [items[index * len(items) // n] for index in range(n)]


def recomputed_blocks(n_blocks: int, checkpointing: Checkpointing) -> list[int]:
    """Which blocks are computed again.

    They are spread evenly, so that blocks that are swapped can be, too, and the last block is kept: it is the first
    whose activations the backward pass frees, before any block is computed again, so the most memory that is in use
    at once is one block less than if it were computed again.

    Args:
        n_blocks: of the model.
        checkpointing: see `Checkpointing`; a share is rounded to the nearest number of blocks, at least one.
    """
    if isinstance(checkpointing, str):
        return list(range(n_blocks)) if checkpointing == "all" else []
    return spread(range(n_blocks), max(1, math.floor(checkpointing * n_blocks + 0.5)))


def set_checkpointing(model: LTX2, checkpointing: Checkpointing) -> None:
    """Let the blocks of a model keep or recompute their activations; gradients are the same either way.

    Args:
        model: the base model.
        checkpointing: see `Checkpointing`.
    """
    transformer = model.transformer
    if checkpointing == "none":
        transformer.disable_gradient_checkpointing()
        return
    if checkpointing == "all":
        transformer.enable_gradient_checkpointing()
        return
    blocks = transformer.transformer_blocks
    chosen = {blocks[index] for index in recomputed_blocks(len(blocks), checkpointing)}

    def run(block: nn.Module, *inputs: object) -> tuple[Tensor, Tensor]:
        if block in chosen:
            return checkpoint(block.__call__, *inputs, use_reentrant=False)
        return block(*inputs)

    transformer.enable_gradient_checkpointing(run)
