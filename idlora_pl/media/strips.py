"""Read a video once, forwards, as strips: parts of a given length without a scene cut, on an even grid of times.

Pictures of a strip stay as they were decoded until it is known which part of them is wanted.
Letters: F frames, K chosen frames, H W pixels.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from torch import Tensor

from idlora_pl.media.colour import Screen
from idlora_pl.media.decoding import Size, TimedFrames, aspect_of, timed_frames
from idlora_pl.media.orientation import Box, Orientation
from idlora_pl.media.reading import Path
from idlora_pl.media.source import frame_rate, opened

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


Scenes = Callable[[Iterator[Timed]], Iterator[Timed]]
"""Sets `breaks` of the pictures with which a scene begins."""


@dataclass(frozen=True, eq=False)
class Strip:
    """Consecutive pictures of one scene.

    Attributes:
        start_s: time of the first one, in seconds after the first frame of the file.
        frames: as they are stored and seen.
        aspect: width of a stored pixel over its height.
        complete: whether it has the length that was asked for; a shorter one is what was left of a scene.
        starts_scene: whether it is the first strip of its scene.
        orientation: what makes a picture upright.
    """

    start_s: float
    frames: tuple[VideoFrame, ...]
    aspect: float
    complete: bool
    starts_scene: bool
    orientation: Orientation = Orientation()

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.frames)

    @property
    def size(self) -> Size:
        """(H, W) of a picture, upright and with square pixels."""
        frame = self.frames[0]
        sides = frame.height, round(frame.width * self.aspect)
        return sides[::-1] if self.orientation.lies else sides

    def small(self, chosen: Sequence[int], longest_side: int) -> Tensor:
        """Return pictures as uint8 (K, 3, H, W), upright, made small enough to look for something in them."""
        scale = min(1.0, longest_side / max(self.size))
        width, height = round(self.size[1] * scale), round(self.size[0] * scale)
        if self.orientation.lies:
            width, height = height, width
        pictures, scaler = [], VideoReformatter()
        for index in chosen:
            look = {"width": max(1, width), "height": max(1, height), "interpolation": Interpolation.AREA}
            pixels = scaler.reformat(self.frames[index], format="rgb24", **look).to_ndarray()
            pictures.append(self.orientation.upright(pixels).transpose(2, 0, 1))
        return torch.from_numpy(np.stack(pictures))

    def cropped(self, box: Box, size: Size) -> Iterator[VideoFrame]:
        """Yield all pictures inside a box, upright, resized to `size` (H, W), as yuv420p in BT.709.

        Args:
            box: left, top, right, bottom as shares of the upright picture.
            size: (H, W) of what is returned; the box should have these proportions.
        """
        first = self.frames[0]
        left, top, right, bottom = self.orientation.stored(box)
        rows = [round(edge * first.height) for edge in (top, bottom)]
        columns = [round(edge * first.width) for edge in (left, right)]
        cropper = _Cropper(first, (rows[0], columns[0], rows[1], columns[1]), size, self.orientation)
        previous, picture = None, None
        for frame in self.frames:
            picture = picture if frame is previous else cropper.picture(frame)
            previous = frame
            assert picture is not None
            yield picture


class _Cropper:
    """FFmpeg's crop, scale, flip and transpose filters, which copy no pixel outside the box."""

    def __init__(self, like: VideoFrame, box: tuple[int, int, int, int], size: Size, upright: Orientation) -> None:
        top, left, bottom, right = box
        height, width = size[::-1] if upright.lies else size
        self.graph = Graph()
        source = self.graph.add_buffer(
            width=like.width, height=like.height, format=like.format, time_base=Fraction(1, 1000)
        )
        crop = self.graph.add("crop", f"w={max(1, right - left)}:h={max(1, bottom - top)}:x={left}:y={top}:exact=1")
        flags = "bicubic+accurate_rnd+full_chroma_int"
        scale = self.graph.add("scale", f"w={width}:h={height}:flags={flags}:out_color_matrix=bt709:out_range=tv")
        kind = self.graph.add("format", "pix_fmts=yuv420p")
        turning = [self.graph.add(*part) for part in upright.filters()]
        parts = [source, crop, scale, kind, *turning, self.graph.add("buffersink")]
        for earlier, later in zip(parts, parts[1:], strict=False):
            earlier.link_to(later)
        self.graph.configure()
        self.count = 0

    def picture(self, frame: VideoFrame) -> VideoFrame:
        """Return one picture."""
        frame.pts, self.count = self.count, self.count + 1
        self.graph.push(frame)
        found = self.graph.pull()
        assert isinstance(found, VideoFrame)
        return found


def read_strips(path: Path, n_frames: int, frame_rate_fps: float, scenes: Scenes = iter) -> Iterator[Strip]:
    """Yield the strips of a video, one after the other; each has `n_frames` pictures or is what was left of a scene.

    Args:
        path: the video.
        n_frames: pictures of a strip.
        frame_rate_fps: of the strips.
        scenes: finds where scenes begin; by default a scene ends at gaps and damaged pictures only.

    Raises:
        MediaError: when the file is missing or cannot be decoded any further.
    """
    with opened(path) as source:
        stream = source.video
        aspect = aspect_of(stream)
        native_fps = max(1.0, min(frame_rate(stream), 1000.0))
        kept: list[Timed] = []
        starts = True

        def strip(complete: bool) -> Strip:
            frames = tuple(picture.frame for picture in kept)
            start_s = kept[0].index / frame_rate_fps
            return Strip(start_s, frames, aspect, complete, starts, kept[0].orientation)

        pictures = on_grid(timed_frames(source), Screen(source.name), 1.0 / native_fps, frame_rate_fps)
        for picture in scenes(pictures):
            if kept and picture.breaks:
                yield strip(complete=False)
                kept, starts = [], True
            kept.append(picture)
            if len(kept) == n_frames:
                yield strip(complete=True)
                kept, starts = [], False
        if kept:
            yield strip(complete=False)
