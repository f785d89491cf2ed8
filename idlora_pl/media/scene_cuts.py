"""Where one scene of a video ends and the next begins, decided while the video is decoded.

The measure is that of PySceneDetect's AdaptiveDetector: how far hue, saturation and brightness move from one picture to
the next, compared with the pictures around it, so that a camera that moves and film grain are no cuts. PySceneDetect
itself would decode every video a second time and needs OpenCV. Fades have no single picture where they happen and are
not found.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation

from idlora_pl.media.time_grid import Timed

ADAPTIVE_RATIO = 3.0
"""How many times the change around it a change must be to be a cut (PySceneDetect's default)."""
LEAST_CHANGE = 15.0
"""Least change of a cut, of 255 (PySceneDetect's default)."""
WINDOW = 2
"""Pictures before and after that a change is compared with."""
_LONGEST_SIDE = 64


def small_hsv(frame: VideoFrame) -> np.ndarray:
    """Return a small picture as float32 (h, w, 3): hue in half degrees, saturation and brightness in 0..255."""
    scale = _LONGEST_SIDE / max(frame.width, frame.height)
    width, height = (max(2, round(side * scale)) for side in (frame.width, frame.height))
    # sampling points reads a fraction of the picture; what it aliases is alike in all neighbours
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation=Interpolation.POINT)
    rgb = small.to_ndarray().astype(np.float32)
    high, low = rgb.max(2), rgb.min(2)
    span = high - low
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    safe = np.maximum(span, 1e-6)
    sector = np.where(high == red, (green - blue) / safe, np.where(high == green, 2 + (blue - red) / safe, 0))
    sector = np.where((high == blue) & (high != red) & (high != green), 4 + (red - green) / safe, sector)
    hue = np.where(span > 0, sector * 30 % 180, 0)
    saturation = np.where(high > 0, 255 * span / np.maximum(high, 1e-6), 0)
    return np.stack([hue, saturation, high], 2)


class _Shown:
    """One decoded picture with all places of the grid that show it, and its change (None: nothing to compare with)."""

    def __init__(self, first: Timed, change: float | None) -> None:
        self.pictures, self.frame, self.change = [first], first.frame, change


def with_cuts(pictures: Iterator[Timed]) -> Iterator[Timed]:
    """Mark the first picture of every scene; pictures come out a few later than they went in."""
    waiting: deque[_Shown] = deque()
    before: deque[float | None] = deque(maxlen=WINDOW)
    previous: np.ndarray | None = None
    for picture in pictures:
        if waiting and picture.frame is waiting[-1].frame:
            waiting[-1].pictures.append(picture)
            continue
        small = small_hsv(picture.frame)
        alike = previous is not None and not picture.breaks and previous.shape == small.shape
        waiting.append(_Shown(picture, float(np.abs(small - previous).mean()) if alike else None))
        previous = small
        if len(waiting) > WINDOW:
            yield from _released(waiting, before)
    while waiting:
        yield from _released(waiting, before)


def _released(waiting: deque[_Shown], before: deque[float | None]) -> Iterator[Timed]:
    """Give out the oldest picture with the verdict on it."""
    shown = waiting.popleft()
    around = [change for change in (*before, *(later.change for later in waiting)) if change is not None]
    cut = shown.change is not None and is_cut(shown.change, around)
    before.append(shown.change)
    first, *rest = shown.pictures
    yield replace(first, breaks=first.breaks or cut)
    yield from rest


def is_cut(change: float, around: Sequence[float]) -> bool:
    """Say whether a change is a cut, given the changes around it.

    Example:
        >>> is_cut(40.0, [2.0, 3.0, 2.0, 3.0]), is_cut(40.0, [38.0, 41.0, 39.0, 40.0])
        (True, False)
    """
    usual = sum(around) / len(around) if around else 0.0
    return change >= LEAST_CHANGE and change >= ADAPTIVE_RATIO * usual
