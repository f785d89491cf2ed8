"""Boxes: left, top, right, bottom in pixels.

Letters: K and L boxes.
"""

import torch
from torch import Tensor


def areas(boxes: Tensor) -> Tensor:
    """Return the areas (K,) of boxes (K, 4); 0 for a box that is turned inside out."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


def overlaps(a: Tensor, b: Tensor, *, of_smaller: bool = False) -> Tensor:
    """Return how far boxes (K, 4) and (L, 4) overlap, as (K, L): intersection over union; 0 where that is empty.

    Args:
        a: K boxes.
        b: L boxes.
        of_smaller: Divide by the area of the smaller box instead, so that a box within another one is at 1.

    Example:
        >>> a, b = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 2.0, 2.0]])
        >>> overlaps(a, b), overlaps(a, b, of_smaller=True)
        (tensor([[0.5000]]), tensor([[1.]]))
    """
    low, high = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    own, other = areas(a)[:, None], areas(b)[None]
    whole = torch.minimum(own, other) if of_smaller else own + other - shared
    return torch.where(whole > 0, shared / whole.clamp(min=1e-9), torch.zeros_like(shared))


def best_apart(boxes: Tensor, scores: Tensor, limit: float, *, of_smaller: bool = False) -> Tensor:
    """Return the indices of boxes (K, 4) that no better box overlaps by more than `limit`, best first."""
    order = scores.argsort(descending=True, stable=True)
    close = overlaps(boxes[order], boxes[order], of_smaller=of_smaller) > limit
    free = torch.ones(len(order), dtype=torch.bool)
    kept: list[int] = []
    for index in range(len(order)):
        if free[index]:
            kept.append(index)
            free &= ~close[index]
    return order[torch.tensor(kept, dtype=torch.long)]


def best_apart_by_frame(boxes: Tensor, scores: Tensor, owners: Tensor, limit: float) -> Tensor:
    """Return the indices that `best_apart` keeps within each frame; `owners` (K,) says which frame a box is of."""
    kept = []
    for owner in owners.unique().tolist():
        mine = (owners == owner).nonzero()[:, 0]
        kept.append(mine[best_apart(boxes[mine], scores[mine], limit)])
    return torch.cat(kept) if kept else owners.new_zeros(0)


def squares(boxes: Tensor) -> Tensor:
    """Lengthen the shorter side of boxes (K, 4) about their centres."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centre, half = boxes[:, :2] + sides / 2, sides.amax(1, keepdim=True) / 2
    return torch.cat([centre - half, centre + half], 1)
