"""SCRFD, the face detector of insightface's model packs (Guo et al. 2021): frames in, boxes with landmarks out.

Letters: F frames, H W pixels, A anchors of one size, K faces.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from idlora_pl.scorers.face.onnx_network import OnnxNetwork
from idlora_pl.scorers.face_tracks.boxes import best_apart
from idlora_pl.scorers.face_tracks.detection import Faces

STRIDES, ANCHORS_PER_PLACE = (8, 16, 32), 2
OVERLAP = 0.4


class Scrfd:
    """Finds the faces of frames.

    A frame is made to fit a square whose rest is black. The network gives, for each stride in turn, the probabilities
    (A, 1), then the boxes (A, 4), then the landmarks (A, 10), both as distances from a grid in units of the stride.

    Args:
        network: `det_10g.onnx` or another of nine outputs.
        size: Side of the square; a multiple of 32.
        threshold: Least probability of a face.
    """

    def __init__(self, network: OnnxNetwork, *, size: int = 320, threshold: float = 0.3) -> None:
        self.network, self.size, self.threshold = network, size, threshold

    def __call__(self, frames: Tensor) -> list[Faces]:
        """Find the faces of uint8 frames (F, 3, H, W)."""
        return [self._find(frame) for frame in frames.cpu()]

    def _find(self, frame: Tensor) -> Faces:
        height, width = frame.shape[1:]
        fits_height = height > width
        new_height = self.size if fits_height else max(1, int(self.size * (height / width)))
        new_width = max(1, int(self.size / (height / width))) if fits_height else self.size
        resized = F.interpolate(frame[None].float(), size=(new_height, new_width), mode="bilinear").round()
        square = F.pad(resized, (0, self.size - new_width, 0, self.size - new_height))
        boxes, scores, landmarks = self._decoded(self.network((square - 127.5) / 128))
        scale = new_height / height
        boxes, landmarks = boxes / scale, landmarks / scale
        # overlaps count pixels, so that a box from a to b is b - a + 1 wide
        kept = best_apart(boxes + torch.tensor([0.0, 0.0, 1.0, 1.0]), scores, OVERLAP)
        return Faces(boxes[kept], scores[kept], landmarks[kept])

    def _decoded(self, outputs: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes (K, 4), probabilities (K,) and landmarks (K, 5, 2) in pixels of the square."""
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for index, stride in enumerate(STRIDES):
            probability, edges, points = (outputs[index + part * len(STRIDES)] for part in range(3))
            n_places = self.size // stride
            rows, columns = torch.meshgrid(torch.arange(n_places), torch.arange(n_places), indexing="ij")
            places = torch.stack([columns, rows], -1).reshape(-1, 2).repeat_interleave(ANCHORS_PER_PLACE, 0) * stride
            likely = probability.reshape(-1) >= self.threshold
            centre, edges = places[likely], edges.reshape(-1, 4)[likely] * stride
            landmarks = centre[:, None] + points.reshape(-1, 5, 2)[likely] * stride
            boxes = torch.cat([centre - edges[:, :2], centre + edges[:, 2:]], 1)
            found.append((boxes, probability.reshape(-1)[likely], landmarks))
        boxes, scores, landmarks = (torch.cat(part) for part in zip(*found, strict=True))
        return boxes, scores, landmarks
