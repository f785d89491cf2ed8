"""Pictures of a video on an even grid of times, with the places where nothing may follow what was before."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from idlora_pl.media.colour import Screen
from idlora_pl.media.decoding import TimedFrames
from idlora_pl.media.orientation import Orientation

LONGEST_STILL_S = 1.0
"""A picture that stands longer than this is a gap in the video; no clip goes across it."""
MOST_PIXELS = 2304 * 1296
"""Larger pictures are made this small while a strip is read, so that 121 frames of an 8K video fit into memory."""


@dataclass(frozen=True, eq=False)
class Timed:
    """A picture of the clip's time grid.

    Attributes:
        index: place on the grid.
        frame: as it is stored and seen; neighbours that show the same picture share it.
        breaks: whether it cannot follow the picture before it in one clip.
        orientation: what makes it upright.
    """

    index: int
    frame: VideoFrame
    breaks: bool = False
    orientation: Orientation = Orientation()


def on_grid(frames: TimedFrames, screen: Screen, period_s: float, frame_rate_fps: float) -> Iterator[Timed]:
    """Yield the picture that is nearest to each point k / frame_rate_fps, as `decoding.nearest_frames` does.

    A damaged picture is left out. After it, after a gap and where size, colours or orientation change, nothing follows
    what was before.

    Args:
        frames: (seconds since the first frame, frame).
        screen: of their file.
        period_s: how long the last one is shown.
        frame_rate_fps: of the grid.
    """
    index, at, damaged = 0, -math.inf, False
    last: Timed | None = None
    for time, frame in frames:
        if frame.is_corrupt or time <= at:
            damaged = damaged or frame.is_corrupt
            continue
        gap = last is not None and time - at > LONGEST_STILL_S
        until = at + period_s if gap else (at + time) / 2
        while last is not None and index / frame_rate_fps <= until:
            yield replace(last, index=index)
            index, last = index + 1, replace(last, breaks=False)
        index = math.ceil(time * frame_rate_fps) if gap else index
        now = Timed(index, screen.seen(_bounded(frame)), damaged or gap, screen.orientation(frame))
        if last is not None and (last.breaks or not _alike(last, now)):
            now = replace(now, breaks=True)
        last, at, damaged = now, time, False
    for k in range(index, round((at + period_s) * frame_rate_fps) if last else 0):
        assert last is not None
        yield replace(last, index=k)
        last = replace(last, breaks=False)


def _alike(one: Timed, other: Timed) -> bool:
    return _kind(one) == _kind(other)


def _kind(picture: Timed) -> tuple[object, ...]:
    frame = picture.frame
    return frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range, picture.orientation


def _bounded(frame: VideoFrame) -> VideoFrame:
    """Make a picture of more than MOST_PIXELS smaller."""
    scale = math.sqrt(MOST_PIXELS / (frame.width * frame.height))
    if scale >= 1:
        return frame
    width, height = (max(2, int(side * scale) // 2 * 2) for side in (frame.width, frame.height))
    return frame.reformat(width=width, height=height, interpolation=Interpolation.AREA)


class Thumbnails:
    """Makes pictures small. FFmpeg prepares a change of size once and uses it for all that are alike."""

    def __init__(self, longest_side: int) -> None:
        self.longest_side, self._scaler = longest_side, VideoReformatter()

    def of(self, picture: Timed) -> np.ndarray:
        """Return a picture as stored, small, as uint8 (h, w, 3), blue first as OpenCV has it.

        Points are sampled, which reads a fraction of the picture; what this aliases is alike in all neighbours.
        """
        frame = picture.frame
        scale = min(1.0, self.longest_side / max(frame.width, frame.height))
        width, height = (max(2, round(side * scale)) for side in (frame.width, frame.height))
        small = self._scaler.reformat(frame, width, height, "bgr24", interpolation=Interpolation.POINT)
        return small.to_ndarray()
