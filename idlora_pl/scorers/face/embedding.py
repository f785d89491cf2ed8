"""From frames to face vectors: find the largest face, turn it upright, ask the network.

The detector is SCRFD of insightface's model packs (Guo et al. 2021); upright is the 112x112 crop in which eyes, nose
and mouth lie where face networks expect them; networks are ONNX files. Letters: F frames, K faces, D embedding size,
H W pixels, A anchors of one size.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor

from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.scorers.face.mtcnn import Faces, best_apart, detect, load_mtcnn

SIZE = 112
TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
"""Where left eye, right eye, nose, left and right corner of the mouth go, x and y in pixels; left in the picture.
The template of ArcFace (Deng et al. 2019), which MobileFaceNet shares."""


def similarities(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maps from landmarks (K, 5, 2) to the template with the least squared error.

    A map turns, scales and moves: with points as complex numbers x + iy it is p -> turn * p + move.

    Returns:
        turn and move, complex128 (K,).
    """
    source = torch.view_as_complex(landmarks.double().contiguous())
    wanted = torch.view_as_complex(torch.tensor(TEMPLATE, dtype=torch.float64)).expand_as(source)
    centre, aim = source.mean(1, keepdim=True), wanted.mean(1, keepdim=True)
    spread = (source - centre).abs().square().sum(1)
    turn = ((source - centre).conj() * (wanted - aim)).sum(1) / spread
    return turn, aim[:, 0] - turn * centre[:, 0]


def aligned_faces(frames: Tensor, landmarks: Tensor) -> Tensor:
    """Cut faces out of frames and turn them upright.

    Pixels are interpolated bilinearly without smoothing, and black beyond the frame, as OpenCV's warpAffine does.

    Args:
        frames: uint8 (K, 3, H, W).
        landmarks: (K, 5, 2) x and y in pixels.

    Returns:
        uint8 (K, 3, 112, 112).
    """
    turn, move = similarities(landmarks.cpu())
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    pixels = torch.complex(columns.double(), rows.double())
    source = torch.view_as_real((pixels - move[:, None, None]) / turn[:, None, None])
    size = torch.tensor([frames.shape[-1], frames.shape[-2]], dtype=torch.float64)
    places = (2 * (source + 0.5) / size - 1).float().to(frames.device)
    crops = F.grid_sample(frames.float(), places, mode="bilinear", padding_mode="zeros", align_corners=False)
    return crops.round().clamp(0, 255).to(torch.uint8)


class OnnxNetwork:
    """Runs on the CPU; can be pickled, as the path of its file.

    Args:
        path: The file.
        n_outputs: How many tensors it must give.

    Raises:
        ValueError: The file holds another network.
    """

    def __init__(self, path: Path, n_outputs: int) -> None:
        self.path, self.n_outputs = path, n_outputs
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        # the errors of onnxruntime have no base of their own below Exception
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ValueError(f"{path} is no network that onnxruntime reads ({error}); get the file again") from error
        found = len(self._session.get_inputs()), len(self._session.get_outputs())
        if found != (1, n_outputs):
            raise ValueError(f"{path} must have 1 input and {n_outputs} outputs; it has {found[0]} and {found[1]}")
        self._input = self._session.get_inputs()[0].name

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return the outputs for float32 images (1, 3, H, W).

        Raises:
            RuntimeError: onnxruntime cannot compute them.
        """
        pixels = images.float().cpu().contiguous().numpy()
        try:
            found = self._session.run(None, {self._input: pixels})
        except Exception as error:
            raise RuntimeError(f"{self.path.name} failed on images {tuple(images.shape)}: {error}") from error
        return [torch.from_numpy(one) for one in found]

    def __reduce__(self) -> tuple[type["OnnxNetwork"], tuple[Path, int]]:
        """Leave the session behind; it is opened again from the file."""
        return OnnxNetwork, (self.path, self.n_outputs)


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
