"""The opening of the mouth, from MediaPipe's face landmarks.

Letters: F frames, H W pixels.
"""

import signal
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

UPPER_LIP, LOWER_LIP, LEFT_IRIS, RIGHT_IRIS = 13, 14, 468, 473
MAX_FACES = 4


class MouthLandmarks:
    """Distance between the lips over the distance between the irises; a `MouthReader`.

    Every frame is looked at by itself: MediaPipe's video mode smooths over time, which delays the mouth by about a
    frame. Of several faces the largest counts.

    Args:
        path: `face_landmarker.task`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._landmarker: Any = None

    def opening(self, frames: Tensor) -> Tensor:
        """Measure frames uint8 (F, 3, H, W); returns (F,) float64, NaN where no face is found."""
        _hold_profiling_signals()
        return torch.tensor([self._opening(frame) for frame in frames.cpu()], dtype=torch.float64)

    def _opening(self, frame: Tensor) -> float:
        from mediapipe import Image, ImageFormat

        pixels = np.ascontiguousarray(frame.permute(1, 2, 0).numpy())
        found = self._opened().detect(Image(image_format=ImageFormat.SRGB, data=pixels)).face_landmarks
        size = np.array([frame.shape[2], frame.shape[1]])
        faces = [np.array([[point.x, point.y] for point in face]) * size for face in found]
        if not faces:
            return float("nan")
        face = max(faces, key=_area)
        return _distance(face, UPPER_LIP, LOWER_LIP) / max(_distance(face, LEFT_IRIS, RIGHT_IRIS), 1e-6)

    def _opened(self) -> Any:
        """Open the landmarker at the first frame; it is closed with this object, or when Python ends."""
        if self._landmarker is None:
            from mediapipe.tasks.python import BaseOptions, vision

            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=str(self.path)),
                running_mode=vision.RunningMode.IMAGE,
                num_faces=MAX_FACES,
            )
            self._landmarker = vision.FaceLandmarker.create_from_options(options)
            weakref.finalize(self, self._landmarker.close)
        return self._landmarker

    def __getstate__(self) -> dict[str, object]:
        """Leave the open landmarker behind when a metric is copied or pickled."""
        return {"path": self.path, "_landmarker": None}


def _hold_profiling_signals() -> None:
    """Keep SIGPROF from this thread and from those that MediaPipe starts in it.

    MediaPipe starts CPU timers that send it, behind a handler that Python does not know of. Whoever puts Python's
    handlers back afterwards, as Lightning's trainer does at its end, removes that handler, and the next signal would
    end the process without a word.
    """
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF})


def _area(face: NDArray[np.float64]) -> float:
    return float(np.prod(np.ptp(face, axis=0)))


def _distance(face: NDArray[np.float64], first: int, second: int) -> float:
    return float(np.linalg.norm(face[first] - face[second]))
