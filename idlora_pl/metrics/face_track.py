"""Where the face of a clip is, and the crops of it that lip-sync networks look at.

Letters: F frames, H W pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

CROP_SIZE = 224
CROP_MARGIN = 0.4
"""How far the crop reaches beyond the box at either side and below, as a share of half the box."""
CROP_GREY = 110
"""What lies beyond the edge of the frame."""
MEDIAN_FRAMES = 13
"""Frames of the running median over the boxes."""


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """One face through a clip.

    Attributes:
        boxes: float32 (F, 4) left, top, right, bottom in pixels.
        landmarks: float32 (F, 5, 2) x and y in pixels of left eye, right eye, nose, left and right corner of the mouth,
            left being left in the picture.
        notes: What the row of the clip should say about the track.
    """

    boxes: Tensor
    landmarks: Tensor
    notes: dict[str, str] = field(default_factory=dict)

    def at(self, indices: Tensor) -> "FaceTrack":
        """Return the track of other frames, such as those of another frame rate."""
        return FaceTrack(self.boxes[indices], self.landmarks[indices], self.notes)


def frames_at_rate(n_frames: int, frame_rate_fps: float, wanted_fps: float) -> Tensor:
    """Return which frame is on screen at another frame rate, as indices (K,).

    Frame k of the new rate is the old frame that is shown in the middle of it, of two the earlier: no rate is early
    or late on average, and one that is already the wanted one keeps every frame.

    Example:
        >>> frames_at_rate(4, 16.0, 25.0).tolist()
        [0, 0, 1, 2, 2, 3]
    """
    ratio = frame_rate_fps / wanted_fps
    wanted = max(1, round(n_frames / ratio)) if n_frames else 0
    shown = [math.ceil((k + 0.5) * ratio - 1e-6) - 1 for k in range(wanted)]
    return torch.tensor(shown, dtype=torch.long).clamp(0, max(0, n_frames - 1))


def face_crops(frames: Sequence[Tensor] | Tensor, boxes: Tensor) -> Tensor:
    """Cut the face out of each frame, the way SyncNet's pipeline does.

    Half the longer side and the centre of the boxes go through a running median over 13 frames, whose ends are padded
    with zeros (with the end values where there are fewer than 7 frames). The crop reaches from one half side above the
    centre to 1.8 half sides below, and 1.4 half sides to either side; it is then resized without regard to its shape.
    Source: joonson/syncnet_python, run_pipeline.py.

    Args:
        frames: F frames, uint8 (3, H, W); at least one.
        boxes: (F, 4) of the same frames, best at 25 fps.

    Returns:
        uint8 (F, 3, 224, 224).
    """
    if len(frames) != len(boxes) or boxes.ndim != 2:
        raise ValueError(
            f"boxes must be (F, 4) with a box per frame; got {tuple(boxes.shape)} for {len(frames)} frames"
        )
    half = running_median((boxes[:, 2:] - boxes[:, :2]).amax(1) / 2).tolist()
    x, y = (running_median((boxes[:, i] + boxes[:, i + 2]) / 2).tolist() for i in (0, 1))
    return torch.stack([_crop(frame, x[i], y[i], half[i]) for i, frame in enumerate(frames)])


def running_median(values: Tensor) -> Tensor:
    """Return the running median of (F,) over 13 frames; ends are padded with zeros where 7 frames are there."""
    reach = MEDIAN_FRAMES // 2
    mode = "constant" if len(values) > reach else "replicate"
    padded = F.pad(values[None], (reach, reach), mode=mode)[0]
    return padded.unfold(0, MEDIAN_FRAMES, 1).median(1).values


def _crop(frame: Tensor, x: float, y: float, half: float) -> Tensor:
    """Cut one crop out of uint8 (3, H, W), with grey where it reaches beyond the frame."""
    margin = int(half * (1 + 2 * CROP_MARGIN))
    top, bottom = int(y + margin - half) - margin, int(y + margin + half * (1 + 2 * CROP_MARGIN)) - margin
    left, right = (int(x + margin + sign * half * (1 + CROP_MARGIN)) - margin for sign in (-1, 1))
    height, width = frame.shape[1:]
    inside = frame[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)].float()
    # a negative pad would cut, so what lies wholly outside is grey alone
    pads = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
    padded = F.pad(inside, pads, value=float(CROP_GREY))
    if 0 in padded.shape:
        return frame.new_full((3, CROP_SIZE, CROP_SIZE), CROP_GREY)
    resized = F.interpolate(padded[None], size=(CROP_SIZE, CROP_SIZE), mode="bilinear", align_corners=False)
    return resized[0].round().clamp(0, 255).to(torch.uint8)
