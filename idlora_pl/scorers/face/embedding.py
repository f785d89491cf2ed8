"""From frames to face vectors: find the largest face, turn it upright, ask the network.

Letters: F frames, K faces, D embedding size, H W pixels.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from idlora_pl.metrics.clip_mean import Unscorable
from idlora_pl.scorers.face.alignment import aligned_faces
from idlora_pl.scorers.face.onnx_network import OnnxNetwork
from idlora_pl.scorers.face.scrfd import Scrfd
from idlora_pl.scorers.face_tracks.detection import Faces, detect
from idlora_pl.scorers.face_tracks.networks import load_mtcnn

Detector = Callable[[Tensor], list[Faces]]


class AlignedFace:
    """Embeds the largest face of each frame; satisfies `metrics.embedders.FaceEmbedder`.

    Args:
        detector: Finds faces with landmarks in uint8 frames (F, 3, H, W).
        network: Embeds RGB crops (1, 3, 112, 112).
        mean: Of the three colours, subtracted from pixels in [0, 255].
        std: Of the three colours, divided by.
    """

    def __init__(
        self, detector: Detector, network: OnnxNetwork, *, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        self.detector, self.network = detector, network
        self.mean, self.std = (torch.tensor(one).reshape(3, 1, 1) for one in (mean, std))

    def embed(self, frames: Tensor) -> Tensor:
        """Embed the largest face of each frame, uint8 (F, 3, H, W); returns (K, D), not normalised.

        Raises:
            Unscorable: `no_face` when no frame shows one.
        """
        pixels = frames.cpu()
        seen = [(index, faces) for index, faces in enumerate(self.detector(pixels)) if len(faces.boxes)]
        if not seen:
            raise Unscorable("no_face")
        landmarks = torch.stack([faces.landmarks[faces.largest()] for _, faces in seen])
        crops = aligned_faces(pixels[[index for index, _ in seen]], landmarks)
        inputs = (crops.float() - self.mean) / self.std
        return torch.cat([self.network(one[None])[0] for one in inputs])


class MtcnnDetector:
    """MTCNN of a weights folder as a detector; can be pickled.

    Args:
        weights: Folder of weights.
    """

    def __init__(self, weights: Path) -> None:
        self.networks = load_mtcnn(weights)

    def __call__(self, frames: Tensor) -> list[Faces]:
        """Find the faces of uint8 frames (F, 3, H, W)."""
        return detect(self.networks, frames)


@cache
def load_arcface(detector: Path, network: Path) -> AlignedFace:
    """Return ArcFace of insightface's model packs with its own detector, as the authors use it: 320 pixels, 0.3.

    Raises:
        ValueError: A file holds another network.
    """
    grey = (127.5, 127.5, 127.5)
    return AlignedFace(Scrfd(OnnxNetwork(detector, 9)), OnnxNetwork(network, 1), mean=grey, std=grey)


@cache
def load_mobilefacenet(weights: Path, network: Path) -> AlignedFace:
    """Return MobileFaceNet behind MTCNN, with the colours of ImageNet.

    Raises:
        ValueError: A file holds another network.
    """
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return AlignedFace(
        MtcnnDetector(weights),
        OnnxNetwork(network, 1),
        mean=tuple(255 * one for one in mean),
        std=tuple(255 * one for one in std),
    )
