"""Decoded frames of one file, on a time axis whose 0 s is the first video frame.

Letters: F frames, H W pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from os import PathLike
from pathlib import Path

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from torch import Tensor

from idlora_pl.media.clip import MediaError
from idlora_pl.media.memory import GrowingFrames, check_clock

Size = tuple[int, int]
TimedFrames = Iterator[tuple[float, VideoFrame]]

_SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@contextmanager
def opened(path: str | PathLike[str]) -> Iterator[InputContainer]:
    """Open a media file; whatever FFmpeg finds wrong with it becomes a `MediaError`."""
    if not Path(path).is_file():
        kind = "is a folder" if Path(path).is_dir() else "does not exist"
        raise MediaError(f"{path} {kind}; pass the path of one media file")
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            yield container
    except av.FFmpegError as error:
        raise MediaError(
            f"{path} cannot be decoded ({error.strerror}); pass a file that FFmpeg reads, or fetch it again"
        ) from error


def video_stream(container: InputContainer) -> VideoStream:
    """Return the first video stream, set to decode on all cores."""
    if not container.streams.video:
        raise MediaError(f"{container.name} has no video stream; pass a video file")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    return stream


def origin_s(container: InputContainer) -> float:
    """Time of the first video frame on the file's own clock, in seconds."""
    stream = video_stream(container)
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


def frame_rate(stream: VideoStream) -> float:
    """Average frames per second of a stream."""
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return float(rate) if rate else 25.0


def timed_frames(container: InputContainer, start_s: float = 0.0) -> TimedFrames:
    """Yield (seconds since the first frame, frame) from at latest `start_s` on, in display order."""
    stream = video_stream(container)
    origin = origin_s(container)
    frames = _timed(container, stream, origin)
    if start_s > 0 and stream.time_base is not None:
        container.seek(int((origin + start_s) / stream.time_base), stream=stream)
        first = next(frames, None)
        if first is not None and first[0] <= start_s:
            yield first
        else:
            # some containers cannot seek backwards to a key frame: then count from the start
            container.seek(0)
            frames = _timed(container, stream, origin)
    yield from frames


def _timed(container: InputContainer, stream: VideoStream, origin: float) -> TimedFrames:
    """Yield frames with their times; a frame without one follows its predecessor by one period."""
    period = 1.0 / frame_rate(stream)
    time = -period
    for frame in container.decode(stream):
        time = frame.time - origin if frame.time is not None else time + period
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


def to_rgb(frame: VideoFrame, aspect: float = 1.0, size: Size | None = None) -> Tensor:
    """Return a frame as uint8 (3, H, W), upright, with square pixels.

    Args:
        frame: as decoded.
        aspect: width of a stored pixel over its height.
        size: (H, W) to cover: the frame is resized until it covers it, then cropped at the centre.
    """
    turned = round(frame.rotation / 90) % 2 == 1
    height, width = frame.height, round(frame.width * aspect)
    if size is not None:
        crop_h, crop_w = size[::-1] if turned else size
        scale = max(crop_h / height, crop_w / width)
        height, width = max(crop_h, round(height * scale)), max(crop_w, round(width * scale))
    pixels = frame.reformat(width=width, height=height, format="rgb24", interpolation=_SCALING).to_ndarray()
    if size is not None:
        top, left = (height - crop_h) // 2, (width - crop_w) // 2
        pixels = pixels[top : top + crop_h, left : left + crop_w]
    upright = np.rot90(pixels, round(frame.rotation / 90))
    return torch.from_numpy(upright.transpose(2, 0, 1).copy())


def read_frames(
    container: InputContainer, start_s: float, rate_fps: float | None, n_frames: int | None, size: Size | None
) -> tuple[Tensor, float]:
    """Return uint8 (F, 3, H, W) and the frames per second.

    Args:
        container: the opened file.
        start_s: where to begin, in seconds after the first frame.
        rate_fps: frame rate to convert to, by taking the frame nearest in time; None keeps the frames and the
            average rate of the file.
        n_frames: how many frames to read; None reads to the end.
        size: (H, W) to cover, as in `to_rgb`; None keeps the size.
    """
    stream = video_stream(container)
    native_fps = frame_rate(stream)
    aspect = float(stream.sample_aspect_ratio or 1)
    timed: TimedFrames = timed_frames(container, start_s)
    if rate_fps is None:
        timed = ((time, frame) for time, frame in timed if time >= start_s - 0.5 / native_fps)
    else:
        timed = nearest_frames(timed, 1.0 / native_fps, start_s, rate_fps)
    kept, last, previous, n_decoded = GrowingFrames(), torch.empty(0), None, 0
    for time, frame in islice(timed, n_frames):
        if frame is not previous:
            last, n_decoded = to_rgb(frame, aspect, size), n_decoded + 1
        if rate_fps is not None and n_frames is None:
            check_clock(container.name, "picture", n_decoded / native_fps, time - start_s)
        kept.add(last)
        previous = frame
    return kept.whole(), rate_fps or native_fps
