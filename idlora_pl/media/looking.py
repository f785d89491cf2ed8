"""Look into a file without reading all of it: its codecs, and one frame.

Letters: H W pixels.
"""

from dataclasses import dataclass
from os import PathLike

from torch import Tensor

from idlora_pl.media.clip import MediaError
from idlora_pl.media.decoding import opened, timed_frames, to_rgb, video_stream

_COVER = 0x400
"""FFmpeg's mark of a picture that belongs to a song."""


@dataclass(frozen=True)
class Codecs:
    """What a file is made of, in FFmpeg's names.

    Attributes:
        container: All names of the format between commas, such as "mov,mp4,m4a,3gp,3g2,mj2".
        picture: Codec of the picture, "" without one; the cover of a song is none.
        pixels: How pixels are stored, such as "yuv420p".
        sound: Codec of the sound, "" without one.
    """

    container: str
    picture: str
    pixels: str
    sound: str


def codecs_of(path: str | PathLike[str]) -> Codecs:
    """Name the codecs of a file.

    Raises:
        MediaError: when the file is missing, unreadable, or holds neither picture nor sound.
    """
    with opened(path) as container:
        moving = [stream for stream in container.streams.video if not stream.disposition.value & _COVER]
        sounding = list(container.streams.audio)
        if not moving and not sounding:
            raise MediaError(f"{path} has neither picture nor sound; pass a clip")
        picture, pixels = "", ""
        if moving:
            picture, pixels = moving[0].codec_context.name, moving[0].codec_context.pix_fmt or ""
        sound = sounding[0].codec_context.name if sounding else ""
        return Codecs(container.format.name, picture, pixels, sound)


def middle_frame(path: str | PathLike[str]) -> Tensor:
    """Read the frame in the middle of a video, upright, as uint8 (3, H, W).

    Raises:
        MediaError: when the file is missing, unreadable, or has no frames.
    """
    with opened(path) as container:
        stream = video_stream(container)
        length = (stream.duration or 0) * (stream.time_base or 0) or (container.duration or 0) / 1e6
        aspect = float(stream.sample_aspect_ratio or 1)
        # the length in the header may lie, so the last frame before the middle counts
        middle_s, latest = float(length) / 2, None
        for time, frame in timed_frames(container, middle_s):
            if latest is not None and time > middle_s:
                break
            latest = frame
        if latest is None:
            raise MediaError(f"{path} has a video stream without frames; pass another file")
        return to_rgb(latest, aspect)
