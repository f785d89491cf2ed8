"""The cascade of MTCNN: frames in, boxes with landmarks out; its three networks, from coarse to fine, and their files.

Zhang et al. 2016, "Joint face detection and alignment using multi-task cascaded convolutional networks"; layers and
key names of the weights that facenet-pytorch publishes. Coordinates follow it, too, which follows the Matlab original
in counting a box of pixels a..b as b - a + 1. Boxes are left, top, right, bottom in pixels. Letters: F frames, H W
pixels, N crops, K and L faces of a frame or boxes, or candidates of all frames together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from idlora_pl.scorers.weights import WeightFile

PLACES = ("face/mtcnn_pnet.pt", "face/mtcnn_rnet.pt", "face/mtcnn_onet.pt")
"""The weights, relative to the weights folder."""


def _pool(size: int) -> nn.MaxPool2d:
    # The weights come from Caffe, which rounds the size of a pooled map up.
    return nn.MaxPool2d(size, 2, ceil_mode=True)


class ProposalNet(nn.Module):
    """Looks at every 12x12 window of an image, 2 pixels apart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1, self.pool1 = nn.Conv2d(3, 10, 3), nn.PReLU(10), _pool(2)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (N, 3, H, W) in [-1, 1] to face probability (N, h, w) and box correction (N, 4, h, w)."""
        maps = self.pool1(self.prelu1(self.conv1(images)))
        maps = self.prelu3(self.conv3(self.prelu2(self.conv2(maps))))
        return self.conv4_1(maps).softmax(1)[:, 1], self.conv4_2(maps)


class RefineNet(nn.Module):
    """Looks at crops of 24x24 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1, self.pool1 = nn.Conv2d(3, 28, 3), nn.PReLU(28), _pool(3)
        self.conv2, self.prelu2, self.pool2 = nn.Conv2d(28, 48, 3), nn.PReLU(48), _pool(3)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Map crops (N, 3, 24, 24) in [-1, 1] to face probability (N,) and box correction (N, 4)."""
        maps = self.pool1(self.prelu1(self.conv1(crops)))
        maps = self.pool2(self.prelu2(self.conv2(maps)))
        features = self.prelu4(self.dense4(_flat(self.prelu3(self.conv3(maps)))))
        return self.dense5_1(features).softmax(1)[:, 1], self.dense5_2(features)


class OutputNet(nn.Module):
    """Looks at crops of 48x48 pixels, and finds eyes, nose and corners of the mouth."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1, self.pool1 = nn.Conv2d(3, 32, 3), nn.PReLU(32), _pool(3)
        self.conv2, self.prelu2, self.pool2 = nn.Conv2d(32, 64, 3), nn.PReLU(64), _pool(3)
        self.conv3, self.prelu3, self.pool3 = nn.Conv2d(64, 64, 3), nn.PReLU(64), _pool(2)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map crops (N, 3, 48, 48) to face probability (N,), box correction (N, 4) and landmarks (N, 5, 2).

        The landmarks are x and y as shares of the crop: left eye, right eye, nose, left and right corner of the mouth,
        left being left in the picture.
        """
        maps = self.pool1(self.prelu1(self.conv1(crops)))
        maps = self.pool2(self.prelu2(self.conv2(maps)))
        maps = self.pool3(self.prelu3(self.conv3(maps)))
        features = self.prelu5(self.dense5(_flat(self.prelu4(self.conv4(maps)))))
        points = self.dense6_3(features).reshape(-1, 2, 5).transpose(1, 2)
        return self.dense6_1(features).softmax(1)[:, 1], self.dense6_2(features), points


def _flat(maps: Tensor) -> Tensor:
    """Flatten (N, C, H, W) with the columns outermost, the order that the dense layers were trained in."""
    return maps.permute(0, 3, 2, 1).flatten(1)


class Mtcnn(nn.Module):
    """The three networks together; `detect` runs them."""

    def __init__(self) -> None:
        super().__init__()
        self.proposal, self.refine, self.output = ProposalNet(), RefineNet(), OutputNet()


def load_mtcnn(weights: Path) -> Mtcnn:
    """Load the networks from the weights folder, ready to detect.

    Raises:
        ValueError: A file does not hold the tensors of its network.
    """
    networks = Mtcnn()
    for network, place in zip((networks.proposal, networks.refine, networks.output), PLACES, strict=True):
        tensors = torch.load(weights / place, map_location="cpu", weights_only=True)
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(f"{weights / place} does not fit {type(network).__name__}: {error}") from error
    return networks.eval().requires_grad_(False)


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


_DIGESTS = {
    "face/mtcnn_pnet.pt": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "face/mtcnn_rnet.pt": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "face/mtcnn_onet.pt": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
}
_SOURCE = "https://github.com/timesler/facenet-pytorch/raw/787da0615608/data"

MTCNN_FILES = tuple(
    WeightFile(
        place,
        _DIGESTS[place],
        f"curl -L --create-dirs -o WEIGHTS/{place} {_SOURCE}/{place.removeprefix('face/mtcnn_')}",
        "MIT (timesler/facenet-pytorch)",
    )
    for place in PLACES
)
"""Three files, of the proposal, the refining and the output network."""
