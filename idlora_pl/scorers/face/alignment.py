"""Faces turned upright: the 112x112 crop in which eyes, nose and mouth lie where face networks expect them.

Letters: K faces, H W pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

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
