"""An opened media file: which of its streams are meant, and where its time begins."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from idlora_pl.media.clip import MediaError

_MOST_UNTIMED = 500
"""Frames without a time that are looked at for one with."""
S = TypeVar("S", VideoStream, AudioStream)
_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.dependent
"""FFmpeg's marks of pictures that are no video: covers, thumbnails, tiles of a picture and what belongs to one."""


def shown_name(path: str | os.PathLike[str]) -> str:
    """Return a path as it can be printed; bytes that are not UTF-8 are spelt out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class _Named:
    """An open file as FFmpeg is shown it: of its name, the ending alone.

    FFmpeg takes names with a colon for addresses, and those with a per cent sign for patterns.
    """

    def __init__(self, file: BinaryIO, path: str | os.PathLike[str]) -> None:
        self.file, self.read, self.tell = file, file.read, file.tell
        ending = Path(path).suffix
        self.name = f"file{ending}" if re.fullmatch(r"\.[A-Za-z0-9]+", ending) else "file"

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; -1 where there is none, as FFmpeg wants to hear it of a damaged file."""
        try:
            return self.file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


@dataclass(frozen=True, eq=False)
class Source:
    """An opened file.

    Attributes:
        path: Where it is.
        container: What FFmpeg found in it.
    """

    path: str | os.PathLike[str]
    container: InputContainer

    @property
    def name(self) -> str:
        """The path as messages show it."""
        return shown_name(self.path)

    @property
    def has_video(self) -> bool:
        """Whether there is a moving picture; the cover of a song and the tiles of a photograph are none."""
        return bool(self._moving)

    @property
    def has_sound(self) -> bool:
        """Whether there is a track of sound."""
        return bool(self.container.streams.audio)

    @property
    def _moving(self) -> list[VideoStream]:
        return [stream for stream in self.container.streams.video if not stream.disposition & _STILLS]

    @cached_property
    def video(self) -> VideoStream:
        """The video stream that is marked as the default, else the first; set to decode on all cores.

        Raises:
            MediaError: There is none, or FFmpeg does not know its codec.
        """
        if not self._moving:
            stills = self.container.streams.video
            kind = "has pictures but no video stream" if stills else "has no video stream"
            raise MediaError(f"{self.name} {kind}; pass a video file")
        stream = _defaults_first(self._moving)[0]
        if stream.codec_context is None:
            raise MediaError(f"{self.name} has a video stream of a codec that FFmpeg does not know; fetch it again")
        stream.thread_type = "AUTO"
        return stream

    @cached_property
    def sound(self) -> AudioStream:
        """The sound track that is marked as the default, else the first that can be decoded.

        Raises:
            MediaError: There is none, or FFmpeg does not know the codec of any.
        """
        if not self.has_sound:
            raise MediaError(f"{self.name} has no audio stream; pass a file with sound")
        tracks = [track for track in _defaults_first(self.container.streams.audio) if track.codec_context is not None]
        if not tracks:
            raise MediaError(f"{self.name} has an audio stream of a codec that FFmpeg does not know; fetch it again")
        if len(tracks) == 1:
            return tracks[0]
        numbers = [list(self.container.streams.audio).index(track) for track in tracks]
        return next((track for track, number in zip(tracks, numbers, strict=True) if self._gives(number)), tracks[0])

    def _gives(self, number: int) -> bool:
        """Say whether a track can be decoded; looked up apart, because a container is read forwards only."""
        with opened(self.path) as other:
            try:
                return next(decoded(other, other.container.streams.audio[number]), None) is not None
            except av.FFmpegError:
                return False

    @cached_property
    def zero_s(self) -> float:
        """Time of the first frame that can be decoded and shown, on the file's own clock, in seconds.

        What comes before it (frames whose key frame was cut off, sound) lies at negative times.
        """
        with opened(self.path) as other:
            stream = other.video
            stream.thread_type = "SLICE"
            # some containers hold no times below zero, so that the first frames have none
            for index, frame in enumerate(islice(decoded(other, stream), _MOST_UNTIMED)):
                if frame.time is not None:
                    return frame.time - index / frame_rate(stream)
            return float((stream.start_time or 0) * (stream.time_base or 0))


def frame_rate(stream: VideoStream) -> float:
    """Average frames per second of a stream."""
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return float(rate) if rate else 25.0


def _defaults_first(streams: Sequence[S]) -> list[S]:
    return sorted(streams, key=lambda stream: not stream.disposition & Disposition.default)


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Source]:
    """Open a media file; whatever FFmpeg finds wrong with it becomes a `MediaError`."""
    if not Path(path).is_file():
        kind = "is a folder" if Path(path).is_dir() else "does not exist"
        raise MediaError(f"{shown_name(path)} {kind}; pass the path of one media file")
    try:
        with open(path, "rb") as file, av.open(_Named(file, path), "r", metadata_errors="replace") as container:
            yield Source(path, container)
    except av.FFmpegError as error:
        raise MediaError(
            f"{shown_name(path)} cannot be decoded ({error.strerror}); pass a file that FFmpeg reads, or fetch it again"
        ) from error


def decoded(source: Source, stream: VideoStream | AudioStream) -> Iterator[VideoFrame | AudioFrame]:
    """Decode a stream from where the container stands.

    After a jump and in a file that was cut, the first packets may lack what they build upon; those that cannot be
    decoded, and pictures that are marked as damaged, are left out until there is a whole one.

    Raises:
        av.FFmpegError: A later packet cannot be decoded, or none can.
        MediaError: No picture is whole.
    """
    whole, damaged, wrong = False, False, None
    for packet in source.container.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError as error:
            if whole:
                raise
            wrong = error
            continue
        for frame in frames:
            assert isinstance(frame, VideoFrame | AudioFrame)
            if not whole and isinstance(frame, VideoFrame) and frame.is_corrupt:
                damaged = True
                continue
            whole = True
            yield frame
    if not whole and damaged:
        raise MediaError(f"{source.name} has no picture that is whole; fetch it again")
    if not whole and wrong is not None:
        raise wrong
