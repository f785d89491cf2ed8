"""Look into a file without reading all of it: its codecs, and one frame.

Letters: H W pixels.
"""

from dataclasses import dataclass
from os import PathLike

from torch import Tensor

from idlora_pl.media.clip import MediaError
from idlora_pl.media.colour import Screen
from idlora_pl.media.decoding import aspect_of, timed_frames, to_rgb
from idlora_pl.media.source import opened


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
    with opened(path) as source:
        if not source.has_video and not source.has_sound:
            raise MediaError(f"{source.name} has neither picture nor sound; pass a clip")
        picture, pixels = "", ""
        if source.has_video:
            picture, pixels = source.video.codec_context.name, source.video.codec_context.pix_fmt or ""
        sound = source.sound.codec_context.name if source.has_sound else ""
        return Codecs(source.container.format.name, picture, pixels, sound)


def middle_frame(path: str | PathLike[str]) -> Tensor:
    """Read the frame in the middle of a video, upright, as uint8 (3, H, W).

    Raises:
        MediaError: when the file is missing, unreadable, or has no frames.
    """
    with opened(path) as source:
        stream = source.video
        length = (stream.duration or 0) * (stream.time_base or 0) or (source.container.duration or 0) / 1e6
        # the length in the header may lie, so the last frame before the middle counts
        middle_s, latest = float(length) / 2, None
        for time, frame in timed_frames(source, middle_s):
            if latest is not None and time > middle_s:
                break
            latest = frame
        if latest is None:
            raise MediaError(f"{source.name} has a video stream without frames; pass another file")
        return to_rgb(latest, Screen(source.name), aspect=aspect_of(stream))
