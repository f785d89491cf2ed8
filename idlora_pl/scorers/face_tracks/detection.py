"""The cascade of MTCNN: frames in, boxes with landmarks out.

Coordinates follow facenet-pytorch, which follows the Matlab original in counting a box of pixels a..b as b - a + 1.
Letters: F frames, H W pixels, K faces of a frame, or candidates of all frames together.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from idlora_pl.scorers.face_tracks.boxes import areas, best_apart_by_frame, squares
from idlora_pl.scorers.face_tracks.networks import Mtcnn

THRESHOLDS = (0.6, 0.7, 0.9)
"""Least probability of a face after each network; the last is the one of SyncNet's own pipeline."""
PYRAMID_FACTOR = 0.709
CELL, STRIDE = 12, 2
CHUNK = 32
"""Frames that go through the networks together."""


@dataclass(frozen=True, eq=False)
class Faces:
    """The faces of one frame, most probable first.

    Attributes:
        boxes: (K, 4) left, top, right, bottom in pixels; they may reach beyond the frame.
        scores: (K,) probabilities.
        landmarks: (K, 5, 2) x and y in pixels of left eye, right eye, nose, left and right corner of the mouth, left
            being left in the picture.
    """

    boxes: Tensor
    scores: Tensor
    landmarks: Tensor

    def largest(self) -> int:
        """Return the index of the largest face.

        Raises:
            ValueError: There is none.
        """
        if not len(self.boxes):
            raise ValueError("the frame shows no face; look at len(faces.boxes) first")
        return int(areas(self.boxes).argmax())


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Boxes (K, 4) with probabilities (K,) and the frame (K,) that each is of."""

    boxes: Tensor
    scores: Tensor
    owners: Tensor

    def __getitem__(self, chosen: Tensor) -> "_Candidates":
        return _Candidates(self.boxes[chosen], self.scores[chosen], self.owners[chosen])


def detect(networks: Mtcnn, frames: Tensor, *, longest_side: int = 320, least_share: float = 0.1) -> list[Faces]:
    """Find the faces of frames.

    Args:
        networks: MTCNN.
        frames: uint8 (F, 3, H, W) RGB.
        longest_side: Larger frames are made this small first, in pixels; the last network looks at 48.
        least_share: Smallest face that is looked for, as a share of the shorter side; at least 12 pixels.
    """
    with torch.no_grad():
        return [face for chunk in frames.split(CHUNK) for face in _detect(networks, chunk, longest_side, least_share)]


def _detect(networks: Mtcnn, frames: Tensor, longest_side: int, least_share: float) -> list[Faces]:
    scale = min(1.0, longest_side / max(frames.shape[-2:]))
    size = [max(1, round(side * scale)) for side in frames.shape[-2:]]
    images = frames if scale == 1 else F.interpolate(frames, size=size, mode="bilinear", antialias=True)
    images = images.float()
    found = _proposed(networks, images, max(CELL, least_share * min(size)))
    found = _refined(networks, images, found)
    found, points = _finished(networks, images, found)
    each = [(found.owners == index).nonzero()[:, 0] for index in range(len(frames))]
    return [Faces(found.boxes[mine] / scale, found.scores[mine], points[mine] / scale) for mine in each]


def _proposed(networks: Mtcnn, images: Tensor, least: float) -> _Candidates:
    """Look for faces of at least `least` pixels at every place and size."""
    height, width = images.shape[-2:]
    scale = CELL / least
    found, moved = [_none(images)], [images.new_zeros(0, 4)]
    while min(height, width) * scale >= CELL:
        level = _resized(images, [int(height * scale + 1), int(width * scale + 1)])
        probability, shift = networks.proposal(_normal(level))
        owners, rows, columns = (probability >= THRESHOLDS[0]).nonzero(as_tuple=True)
        corner = torch.stack([columns, rows], 1) * STRIDE
        boxes = torch.cat([((corner + 1) / scale).floor(), ((corner + CELL) / scale).floor()], 1)
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        candidates = _Candidates(boxes, probability[owners, rows, columns], owners)
        kept = best_apart_by_frame(boxes, candidates.scores, owners, 0.5)
        found.append(candidates[kept])
        moved.append((boxes + shift[owners, :, rows, columns] * sides)[kept])
        scale *= PYRAMID_FACTOR
    together = _together(found)
    kept = best_apart_by_frame(together.boxes, together.scores, together.owners, 0.7)
    return _Candidates(squares(torch.cat(moved)[kept]), together.scores[kept], together.owners[kept])


def _refined(networks: Mtcnn, images: Tensor, found: _Candidates) -> _Candidates:
    """Keep what the second network takes for a face, and move it to where it sees the face."""
    found, crops = _cropped(images, found, 24)
    scores, shift = _in_chunks(networks.refine, crops)
    passed = scores > THRESHOLDS[1]
    boxes = _shifted(found.boxes, shift)
    found = _Candidates(found.boxes, scores, found.owners)
    kept = passed.nonzero()[:, 0]
    kept = kept[best_apart_by_frame(found.boxes[kept], scores[kept], found.owners[kept], 0.7)]
    return _Candidates(squares(boxes[kept]), scores[kept], found.owners[kept])


def _finished(networks: Mtcnn, images: Tensor, found: _Candidates) -> tuple[_Candidates, Tensor]:
    """Keep what the third network takes for a face; returns its boxes and its landmarks (K, 5, 2)."""
    found, crops = _cropped(images, found, 48)
    scores, shift, points = _in_chunks(networks.output, crops)
    sides = found.boxes[:, None, 2:] - found.boxes[:, None, :2] + 1
    points = found.boxes[:, None, :2] + points * sides - 1
    moved = _Candidates(_shifted(found.boxes, shift), scores, found.owners)
    kept = (scores > THRESHOLDS[2]).nonzero()[:, 0]
    kept = kept[best_apart_by_frame(moved.boxes[kept], scores[kept], found.owners[kept], 0.7)]
    return moved[kept], points[kept]


def _cropped(images: Tensor, found: _Candidates, size: int) -> tuple[_Candidates, Tensor]:
    """Cut candidates out of their frames, as (K, 3, size, size) in [-1, 1]; those outside are dropped."""
    height, width = images.shape[-2:]
    crops, kept = [images.new_zeros(0, 3, size, size)], []
    for index, (owner, box) in enumerate(zip(found.owners.tolist(), found.boxes.int().tolist(), strict=True)):
        left, top, right, bottom = max(box[0], 1) - 1, max(box[1], 1) - 1, min(box[2], width), min(box[3], height)
        if right > left and bottom > top:
            kept.append(index)
            crops.append(_resized(images[owner : owner + 1, :, top:bottom, left:right], [size, size]))
    return found[torch.tensor(kept, dtype=torch.long)], _normal(torch.cat(crops))


def _in_chunks(network: Callable[[Tensor], tuple[Tensor, ...]], crops: Tensor) -> tuple[Tensor, ...]:
    """Run a network on many crops, so that memory stays small."""
    parts = [network(part) for part in crops.split(512)]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def _shifted(boxes: Tensor, shift: Tensor) -> Tensor:
    """Move the edges of boxes (K, 4) by shares (K, 4) of their sides."""
    return boxes + shift * (boxes[:, 2:] - boxes[:, :2] + 1).repeat(1, 2)


def _together(found: list[_Candidates]) -> _Candidates:
    return _Candidates(
        torch.cat([c.boxes for c in found]), torch.cat([c.scores for c in found]), torch.cat([c.owners for c in found])
    )


def _none(images: Tensor) -> _Candidates:
    return _Candidates(images.new_zeros(0, 4), images.new_zeros(0), torch.zeros(0, dtype=torch.long))


def _normal(images: Tensor) -> Tensor:
    """Map 0..255 to about [-1, 1], as the networks were trained."""
    return ((images - 127.5) / 128).contiguous(memory_format=torch.channels_last)


def _resized(images: Tensor, size: list[int]) -> Tensor:
    return F.interpolate(images, size=size, mode="area")
