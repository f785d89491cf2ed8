"""Whether a strip of video shows one face, and the square around it.

Letters: K faces of a picture, S looked-at pictures.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from data_tools.verb.lists import RejectedError
from idlora_pl.media.orientation import Box
from idlora_pl.media.strips import Strip
from idlora_pl.scorers.face.mtcnn import PLACES, Faces, Mtcnn, areas, detect, load_mtcnn
from idlora_pl.scorers.face.tracking import MAX_LOST_SHARE, FacePath, face_paths

LOOKS_PER_SECOND = 3.125
"""Every eighth picture at 25 fps; the face of somebody who talks to a camera does not leave in between."""
LOOK_PX = 320
"""Longest side of the pictures in which faces are looked for."""
LEAST_SHARE = 0.25
"""A second face inside the crop counts when it is in this share of the pictures that the first one is in, ..."""
LEAST_AREA = 0.2
"""... and has at least this share of its area."""


@dataclass(frozen=True)
class FaceRule:
    """What a clip must show, and how it is cropped.

    Attributes:
        width: side of the square over the longer side of the face.
        least_px: shortest longer side of a face, in pixels of the video.
        enlarged: by how much a crop may be enlarged at most.
    """

    width: float = 2.2
    least_px: float = 40.0
    enlarged: float = 3.0


@dataclass(frozen=True)
class FaceCrop:
    """The part of the picture to keep.

    Attributes:
        box: left, top, right, bottom as shares of the picture.
        face_px: longer side of the face in the video.
        found_share: in how many of the looked-at pictures it was found.
    """

    box: Box
    face_px: float
    found_share: float


def find_face(networks: Mtcnn, strip: Strip, frame_rate_fps: float, size: tuple[int, int], rule: FaceRule) -> FaceCrop:
    """Find the one face of a strip, and the crop of proportions `size` around it.

    Raises:
        RejectedError: no_face, face_lost, several_faces or face_small.
    """
    step = max(1, round(frame_rate_fps / LOOKS_PER_SECOND))
    chosen = sorted({*range(0, len(strip), step), len(strip) - 1})
    pictures = strip.small(chosen, LOOK_PX)
    faces = detect(networks, pictures, longest_side=LOOK_PX)
    paths = face_paths(faces, max_gap=len(faces))
    main = _main_face(faces, paths)
    scale = max(strip.size) / max(pictures.shape[-2:])
    boxes = scale * _boxes(faces, main)
    sides = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    face_px = float(sides.median())
    if face_px < rule.least_px:
        raise RejectedError("face_small", f"the face has {face_px:.0f} pixels, {rule.least_px:g} are needed")
    low, high = boxes[:, :2].amin(0), boxes[:, 2:].amax(0)
    centre = (boxes[:, :2] + boxes[:, 2:]).median(0).values / 2
    reach = 2 * torch.maximum(high - centre, centre - low)
    height = max(rule.width * face_px, float(reach[1]), float(reach[0]) * size[0] / size[1])
    box, crop_px = _inside((float(centre[0]), float(centre[1])), max(height, size[0]), strip.size, size)
    if size[0] > rule.enlarged * crop_px:
        raise RejectedError("face_small", f"the picture gives a crop of {crop_px:.0f} pixels for {size[0]}")
    _refuse_others(faces, paths, main, torch.tensor(box) * torch.tensor([*strip.size[::-1]] * 2) / scale)
    return FaceCrop(box, face_px, len(main.samples) / len(faces))


def _main_face(faces: list[Faces], paths: list[FacePath]) -> FacePath:
    """Return the face with the largest sum of areas."""
    if not paths:
        raise RejectedError("no_face", f"no face in {len(faces)} pictures")
    main = max(paths, key=lambda path: float(areas(_boxes(faces, path)).sum()))
    share = len(main.samples) / len(faces)
    if 1 - share > MAX_LOST_SHARE:
        raise RejectedError("face_lost", f"the face is in {share:.0%} of the pictures")
    return main


def _refuse_others(faces: list[Faces], paths: list[FacePath], main: FacePath, crop: Tensor) -> None:
    """Refuse a second face of which a quarter is inside the crop, (4,) edges in the looked-at pictures."""
    main_area = float(areas(_boxes(faces, main)).mean())
    for other in paths:
        boxes = _boxes(faces, other)
        seen = torch.cat([torch.maximum(boxes[:, :2], crop[:2]), torch.minimum(boxes[:, 2:], crop[2:])], 1)
        inside = float(areas(seen).mean()) > LEAST_SHARE * float(areas(boxes).mean())
        large = float(areas(boxes).mean()) >= LEAST_AREA * main_area
        if other is not main and inside and large and len(other.samples) >= LEAST_SHARE * len(main.samples):
            raise RejectedError("several_faces", f"a second face in {len(other.samples)} of {len(faces)} pictures")


def _boxes(faces: list[Faces], path: FacePath) -> Tensor:
    """Return the boxes (S, 4) of one face."""
    return torch.stack([faces[k].boxes[member] for k, member in zip(path.samples, path.members, strict=True)])


def _inside(
    centre: tuple[float, float], height: float, picture: tuple[int, int], size: tuple[int, int]
) -> tuple[Box, float]:
    """Return a box (as shares) inside a picture, of proportions `size` and about `height`, and its height."""
    height = min(height, picture[0], picture[1] * size[0] / size[1])
    width = height * size[1] / size[0]
    left = min(max(centre[0] - width / 2, 0.0), picture[1] - width)
    top = min(max(centre[1] - height / 2, 0.0), picture[0] - height)
    shares = left / picture[1], top / picture[0], (left + width) / picture[1], (top + height) / picture[0]
    return shares, height


def centred(strip: Strip, size: tuple[int, int]) -> Box:
    """Return the largest box of proportions `size` in the middle of the picture, as shares."""
    height, width = strip.size
    return _inside((width / 2, height / 2), float(height), strip.size, size)[0]


def refuse_missing_mtcnn(weights: Path) -> None:
    """Raise ValueError unless a folder holds the three files of MTCNN."""
    for place in PLACES:
        if not (weights / place).is_file():
            raise ValueError(f"{weights / place} does not exist; give a folder with {', '.join(PLACES)}")


@cache
def load_faces(weights: Path) -> Mtcnn:
    """Load the networks once a process."""
    return load_mtcnn(weights)
