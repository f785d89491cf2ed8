"""Decoded frames of one file, on a time axis whose 0 s is the first frame that can be decoded and shown.

It keeps within the memory that a file is worth. Letters: F frames, H W pixels.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor

from idlora_pl.media.clip import MediaError
from idlora_pl.media.colour import Screen
from idlora_pl.media.source import Source, decoded, frame_rate, opened

Size = tuple[int, int]
TimedFrames = Iterator[tuple[float, VideoFrame]]


def aspect_of(stream: VideoStream) -> float:
    """Width of a stored pixel over its height; 1 where the file says nothing, or nothing that can be."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.1 < aspect < 10 else 1.0


def timed_frames(source: Source, start_s: float = 0.0) -> TimedFrames:
    """Yield (seconds since the first frame, frame) from at latest `start_s` on, in display order."""
    stream = source.video
    frames = _timed(source, stream)
    if start_s > 0 and stream.time_base is not None:
        source.container.seek(int((source.zero_s + start_s) / stream.time_base), stream=stream)
        frames = _timed(source, stream, source.zero_s)
        first = next(frames, None)
        if first is None or first[0] > start_s:
            # some containers cannot seek backwards to a key frame: then count from the start
            with opened(source.path) as again:
                yield from _timed(again, again.video)
            return
        yield first
    yield from frames


def _timed(source: Source, stream: VideoStream, zero_s: float | None = None) -> TimedFrames:
    """Yield frames with their times; a frame without one follows its predecessor by one period.

    Args:
        source: the opened file.
        stream: its video.
        zero_s: what is subtracted from the times; None takes the time of the first frame.
    """
    period = 1.0 / frame_rate(stream)
    time = -period
    for frame in decoded(source, stream):
        assert isinstance(frame, VideoFrame)
        if zero_s is None:
            zero_s = source.zero_s if frame.time is None else frame.time
        time = frame.time - zero_s if frame.time is not None else time + period
        yield time, frame


def nearest_frames(frames: TimedFrames, period_s: float, start_s: float, frame_rate_fps: float) -> TimedFrames:
    """Yield, for k = 0, 1, ..., the frame that is nearest to start_s + k / frame_rate_fps.

    Of two equally near frames the earlier one is taken. The last frame lasts `period_s`.
    """
    index = 0
    earlier: tuple[float, VideoFrame] | None = None
    for time, frame in frames:
        while earlier is not None and start_s + index / frame_rate_fps <= (earlier[0] + time) / 2:
            yield start_s + index / frame_rate_fps, earlier[1]
            index += 1
        earlier = (time, frame)
    if earlier is None:
        return
    n_frames = round((earlier[0] + period_s - start_s) * frame_rate_fps)
    for k in range(index, n_frames):
        yield start_s + k / frame_rate_fps, earlier[1]


def to_rgb(frame: VideoFrame, screen: Screen, *, aspect: float = 1.0, size: Size | None = None) -> Tensor:
    """Return a frame as uint8 (3, H, W), upright, as it is seen, with square pixels.

    Args:
        frame: as decoded.
        screen: of its file.
        aspect: width of a stored pixel over its height.
        size: (H, W) to cover: the frame is resized until it covers it, then cropped at the centre.
    """
    orientation = screen.orientation(frame)
    height, width = frame.height, round(frame.width * aspect)
    if size is not None:
        crop_h, crop_w = size[::-1] if orientation.lies else size
        scale = max(crop_h / height, crop_w / width)
        height, width = max(crop_h, round(height * scale)), max(crop_w, round(width * scale))
    pixels = screen.rgb(frame, width, height)
    if size is not None:
        top, left = (height - crop_h) // 2, (width - crop_w) // 2
        pixels = pixels[top : top + crop_h, left : left + crop_w]
    return torch.from_numpy(orientation.upright(pixels).transpose(2, 0, 1).copy())


def read_frames(
    source: Source, start_s: float, rate_fps: float | None, n_frames: int | None, size: Size | None
) -> tuple[Tensor, float]:
    """Return uint8 (F, 3, H, W) and the frames per second.

    Args:
        source: the opened file.
        start_s: where to begin, in seconds after the first frame.
        rate_fps: frame rate to convert to, by taking the frame nearest in time; None keeps the frames and the
            average rate of the file.
        n_frames: how many frames to read; None reads to the end.
        size: (H, W) to cover, as in `to_rgb`; None keeps the size.
    """
    stream = source.video
    native_fps, screen = frame_rate(stream), Screen(source.name)
    timed: TimedFrames = timed_frames(source, start_s)
    if rate_fps is None:
        timed = ((time, frame) for time, frame in timed if time >= start_s - 0.5 / native_fps)
    else:
        timed = nearest_frames(timed, 1.0 / native_fps, start_s, rate_fps)
    kept, last, previous, n_decoded = GrowingFrames(source.name), torch.empty(0), None, 0
    for time, frame in islice(timed, n_frames):
        if frame is not previous:
            last, n_decoded = to_rgb(frame, screen, aspect=aspect_of(stream), size=size), n_decoded + 1
        if rate_fps is not None and n_frames is None:
            check_clock(source.name, "picture", n_decoded / native_fps, time - start_s)
        kept.add(last)
        previous = frame
    return kept.whole(), rate_fps or native_fps


GAP_SHARE, GAP_S = 10.0, 60.0
"""How long a clock may be: so many times what was decoded, and so many seconds more. A pause is shorter."""


def check_clock(name: str, what: str, decoded_s: float, clock_s: float) -> None:
    """Refuse a file whose clock leaps, before its gap is filled: a few bytes can claim days.

    Raises:
        MediaError: `clock_s` is far longer than `decoded_s`.
    """
    if clock_s > GAP_SHARE * decoded_s + GAP_S:
        raise MediaError(
            f"{name}: its {what} lasts {decoded_s:.0f} s, but its clock leaps to at least {clock_s:.0f} s; "
            "encode the file again"
        )


class GrowingFrames:
    """Frames in one block of memory that grows in place; a list that is stacked in the end takes twice as much.

    Args:
        name: of the file, for the message.
    """

    def __init__(self, name: str) -> None:
        self.name, self.block, self.n_frames = name, np.empty((0, 3, 0, 0), np.uint8), 0

    def add(self, frame: Tensor) -> None:
        """Append uint8 (3, H, W).

        Raises:
            MediaError: The frame has another size than those before it.
        """
        if not self.n_frames:
            self.block = np.empty((16, *frame.shape), np.uint8)
        if self.block.shape[1:] != frame.shape:
            before, now = (f"{shape[-1]} x {shape[-2]}" for shape in (self.block.shape, frame.shape))
            raise MediaError(
                f"{self.name}: the picture changes from {before} to {now} pixels; encode the file again in one size"
            )
        if self.n_frames == len(self.block):
            # nothing else looks at the block until it is whole
            self.block.resize((self.n_frames + max(16, self.n_frames // 8), *frame.shape), refcheck=False)
        self.block[self.n_frames] = frame.numpy()
        self.n_frames += 1

    def whole(self) -> Tensor:
        """Return all frames, uint8 (F, 3, H, W)."""
        self.block.resize((self.n_frames, *self.block.shape[1:]), refcheck=False)
        return torch.from_numpy(self.block)
