"""Picture of the nano world: soft-edged faces whose mouths open with the voice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from idlora_pl.nano.world import FRAME_SIZE, Speaker

_SOFTNESS = 0.035
"""Width of an edge as a part of the half picture; soft edges keep the picture well described by few components."""

_CLIPS_AT_ONCE = 4
"""Few clips at once keep the temporaries in cache: drawing 64 together is three times slower."""


def _blob(grid: Tensor, centre: tuple[Tensor, Tensor], radii: tuple[Tensor, Tensor]) -> Tensor:
    """Return how much of each pixel (B, F, H, W) lies in an ellipse given by (B, F) centres and radii."""
    y, x = grid
    dy, dx = y - centre[0][..., None, None], x - centre[1][..., None, None]
    ry, rx = radii[0][..., None, None], radii[1][..., None, None]
    level = ((dy / ry).square() + (dx / rx).square() + 1e-9).sqrt()
    slope = ((dy / ry**2).square() + (dx / rx**2).square() + 1e-9).sqrt()
    return torch.sigmoid(-(level * (level - 1) / slope) / _SOFTNESS)


def _paint(picture: Tensor, mask: Tensor, colour: Tensor) -> Tensor:
    """Lay a colour (B, 3) over a picture (B, F, 3, H, W) where the mask (B, F, H, W) is one."""
    alpha = mask[:, :, None]
    return picture * (1 - alpha) + alpha * colour[:, None, :, None, None]


def _mix(weight: Tensor, first: tuple[float, float, float], second: tuple[float, float, float]) -> Tensor:
    """Blend two RGB colours by (B,) weights into (B, 3)."""
    return torch.lerp(torch.tensor(first), torch.tensor(second), weight[:, None])


def draw(speakers: Sequence[Speaker], mouth: Tensor, width: Tensor) -> Tensor:
    """Draw B faces over F frames.

    Args:
        speakers: B speakers; only `face` is read.
        mouth: (B, F) opening in [0, 1].
        width: (B, F) relative width of the mouth, about 1.

    Returns:
        (B, F, 3, 64, 64) uint8.
    """
    axis = (torch.arange(FRAME_SIZE) + 0.5) / (FRAME_SIZE / 2) - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"))
    traits = torch.tensor([item.face for item in speakers])
    parts = zip(traits.split(_CLIPS_AT_ONCE), mouth.split(_CLIPS_AT_ONCE), width.split(_CLIPS_AT_ONCE), strict=True)
    return torch.cat([_talk(_still_face(part, grid), part, grid, *motion) for part, *motion in parts])


def _talk(still: Tensor, traits: Tensor, grid: Tensor, mouth: Tensor, width: Tensor) -> Tensor:
    """Lay moving lips over still faces (B, 1, 3, H, W); return uint8 frames (B, F, 3, H, W)."""
    upper, lower = still.expand(-1, mouth.shape[1], -1, -1, -1).split(FRAME_SIZE // 2, dim=-2)
    grid = grid[:, FRAME_SIZE // 2 :]
    low = 0.42 + 0.10 * traits[:, 12, None].expand_as(mouth)
    middle = torch.zeros_like(mouth)
    lips = _mix(traits[:, 13], (0.62, 0.22, 0.25), (0.85, 0.42, 0.42))
    across = 0.24 * width
    lower = _paint(lower, _blob(grid, (low, middle), (0.075 + 0.17 * mouth, across + 0.05)), lips)
    inside = _blob(grid, (low, middle), (0.015 + 0.17 * mouth, across)) * (mouth > 0.02)[..., None, None]
    lower = _paint(lower, inside, torch.full((len(traits), 3), 0.12))
    return (torch.cat([upper, lower], dim=-2) * 255).round().clamp(0, 255).to(torch.uint8)


def _still_face(traits: Tensor, grid: Tensor) -> Tensor:
    """Draw all that stays still, (B, 1, 3, H, W), from 14 traits in [0, 1]."""
    one = torch.ones(traits.shape[0], 1)
    wall = _mix(traits[:, 0], (0.30, 0.38, 0.55), (0.75, 0.72, 0.60))
    skin = _mix(traits[:, 1], (0.95, 0.80, 0.68), (0.45, 0.30, 0.20))
    hair = _mix(traits[:, 2], (0.12, 0.09, 0.08), (0.75, 0.55, 0.25))
    iris = _mix(traits[:, 3], (0.20, 0.35, 0.60), (0.30, 0.20, 0.10))
    tall, broad = 0.74 + 0.14 * traits[:, 4, None], 0.54 + 0.16 * traits[:, 5, None]
    apart, size = 0.20 + 0.10 * traits[:, 6, None], 0.075 + 0.05 * traits[:, 7, None]
    fringe, eye_y = -0.66 + 0.20 * traits[:, 8, None], -0.20 + 0.10 * traits[:, 9, None]
    picture = wall[:, None, :, None, None] * torch.ones(1, 1, 3, FRAME_SIZE, FRAME_SIZE)
    picture = _paint(picture, _blob(grid, (-0.12 * one, 0 * one), (tall + 0.06, broad + 0.10)), hair)
    face = _blob(grid, (0.06 * one, 0 * one), (tall, broad)) * torch.sigmoid((grid[0] - fringe[..., None, None]) / 0.04)
    picture = _paint(picture, face, skin)
    for side in (-1.0, 1.0):
        where = (eye_y, side * apart)
        picture = _paint(picture, _blob(grid, where, (size, size * 1.5)), torch.full((traits.shape[0], 3), 0.95))
        picture = _paint(picture, _blob(grid, where, (size * 0.7, size * 0.7)), iris)
        brow = (eye_y - 0.17 - 0.08 * traits[:, 10, None], side * apart)
        picture = _paint(picture, _blob(grid, brow, (0.03 * one, 0.15 * one)), hair)
    nose = (0.16 * one, 0 * one)
    shade = skin * 0.82
    return _paint(picture, _blob(grid, nose, (0.13 * one, 0.05 + 0.04 * traits[:, 11, None])), shade)
