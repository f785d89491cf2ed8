"""Read clips, sound, images and metadata from files; whatever a file holds, for scoring; or a part of it at a glance.

Letters: F frames, H W pixels, S audio samples.
"""

import json
from dataclasses import dataclass
from itertools import islice
from os import PathLike

import torch
from av.video.frame import VideoFrame
from torch import Tensor

from idlora_pl.media.clip import Clip, MediaError
from idlora_pl.media.colour import Screen
from idlora_pl.media.decoding import Size, aspect_of, read_frames, timed_frames, to_rgb
from idlora_pl.media.heif import read_heif
from idlora_pl.media.sound import NoSamplesError, at_rate, audible, finite, fitted, mixed_down, samples
from idlora_pl.media.source import Source, decoded, frame_rate, opened, shown_name

Path = str | PathLike[str]
SHORTEST_VOICE_S = 0.1
"""In less, there is not even one vowel, and audio encoders have no window of it."""


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds, found without decoding it.

    Attributes:
        n_frames: number of video frames, 0 without a video stream.
        frame_rate_fps: average frame rate of the video, 0.0 without one.
        duration_s: length of the picture in seconds.
        size: (H, W) as stored, before any rotation.
        sample_rate_hz: of the sound, 0 without an audio stream.
        channels: of the sound, 0 without an audio stream.
    """

    n_frames: int
    frame_rate_fps: float
    duration_s: float
    size: Size
    sample_rate_hz: int
    channels: int


def probe(path: Path) -> MediaInfo:
    """Look at a video file without decoding it; the length is exact: packets from its first whole picture on count.

    Raises:
        MediaError: when the file is missing, unreadable or has no video stream.
    """
    with opened(path) as source:
        stream = source.video
        times = _shown_times(source)
        rate = frame_rate(stream)
        known = [time for time in times if time is not None]
        duration_s = len(times) / rate
        if len(known) == len(times) > 0 and stream.time_base is not None:
            duration_s = float((max(known) - min(known)) * stream.time_base) + 1.0 / rate
        sound = source.sound.codec_context if source.has_sound else None
        return MediaInfo(
            n_frames=len(times),
            frame_rate_fps=rate,
            duration_s=duration_s,
            size=(stream.height, stream.width),
            sample_rate_hz=sound.sample_rate if sound else 0,
            channels=sound.channels if sound else 0,
        )


def _shown_times(source: Source) -> list[int | None]:
    """Return the times of all packets of the picture that are shown: none before the first whole picture."""
    stream = source.video
    packets = source.container.demux(stream)
    times = [packet.pts for packet in packets if packet.size and not packet.is_discard]
    if stream.time_base is None:
        return list(times)
    begin = (source.zero_s - 0.5 / frame_rate(stream)) / stream.time_base
    return [time for time in times if time is None or time >= begin]


def read_clip(
    path: Path,
    *,
    start_s: float = 0.0,
    frame_rate_fps: float | None = None,
    n_frames: int | None = None,
    size: Size | None = None,
    sample_rate_hz: int | None = None,
) -> Clip:
    """Read a talking clip; its sound starts with its first frame and is as long as its picture.

    Args:
        path: mp4, mpg, mov, mkv, webm, ... with picture and sound.
        start_s: where the clip begins, in seconds after the first frame of the file.
        frame_rate_fps: frame rate to convert to, by taking the source frame nearest in time; None keeps the
            frames and the average rate of the file.
        n_frames: how many frames to read; None reads to the end.
        size: (H, W): resize until the frame covers it and crop the centre; None keeps the size.
        sample_rate_hz: rate to resample the sound to; None keeps the rate of the file.

    Returns:
        Clip with the channels of the file; sound that is missing at the end is silence.

    Raises:
        MediaError: when the file is missing, unreadable, too short, or lacks picture or sound.
    """
    with opened(path) as source:
        name = source.name
        frames, rate = read_frames(source, start_s, frame_rate_fps, n_frames, size)
    if n_frames is not None and len(frames) < n_frames:
        raise MediaError(
            f"{name} has {len(frames)} frames at {rate:g} fps from {start_s:g} s on, {n_frames} were asked "
            f"for; ask for {len(frames)} or pass a longer video"
        )
    if len(frames) == 0:
        raise MediaError(f"{name} has a video stream without frames from {start_s:g} s on; pass another file")
    duration_s = len(frames) / rate
    # a second look, because a container is read forwards only
    with opened(path) as source:
        waveform, native_hz = samples(source, start_s=start_s, duration_s=duration_s)
    waveform, hz = at_rate(finite(waveform, native_hz, name), native_hz, sample_rate_hz)
    return Clip(frames, fitted(waveform, round(duration_s * hz)), rate, hz)


def read_part_sound(path: Path, start_s: float, duration_s: float) -> tuple[Tensor, int]:
    """Read the sound of a part of a video.

    Args:
        path: a video with sound.
        start_s: where the part begins, in seconds after the first frame.
        duration_s: its length; what the track lacks of it is silence.

    Returns:
        (float32 (1 or 2, S) in [-1, 1], samples per second); more than two channels are mixed to two, the centre
        (where the voice is in 5.1) with both.

    Raises:
        MediaError: when the file is missing, unreadable or has no sound, or a sample is infinite or not a number.
    """
    with opened(path) as source:
        waveform, rate = samples(source, start_s=start_s, duration_s=duration_s)
    return at_rate(mixed_down(finite(waveform, rate, source.name)), rate, None)


def read_audio(path: Path, sample_rate_hz: int | None = None) -> tuple[Tensor, int]:
    """Read the sound of a wav, flac, mp3, m4a or video file: the track that is marked as the default, else the first.

    Args:
        path: a file with an audio stream.
        sample_rate_hz: rate to resample to; None keeps the rate of the file.

    Returns:
        (float32 (channels, S) in [-1, 1], samples per second).

    Raises:
        MediaError: when the file is missing, unreadable or has no sound, or a sample is infinite or not a number.
    """
    with opened(path) as source:
        waveform, rate = samples(source)
    return at_rate(finite(waveform, rate, source.name), rate, sample_rate_hz)


def read_voice(path: Path) -> tuple[Tensor, int]:
    """Read a recording of a voice as `read_audio` does, in which something can be heard.

    Returns:
        (float32 (channels, S) in [-1, 1], samples per second).

    Raises:
        MediaError: as of `read_audio`, or when it is shorter than SHORTEST_VOICE_S, or silent: below -80 dBFS.
    """
    waveform, rate = read_audio(path)
    if (duration_s := waveform.shape[1] / rate) < SHORTEST_VOICE_S:
        raise MediaError(f"{shown_name(path)} lasts {duration_s:.3g} s; a voice needs at least {SHORTEST_VOICE_S:g} s")
    return audible(waveform, shown_name(path)), rate


def read_image(path: Path, size: Size | None = None) -> Tensor:
    """Read one image, upright; what is transparent is shown on white, HDR and wide colours as BT.709.

    Args:
        path: png, jpg, webp, bmp, tiff, avif, heic, ...
        size: (H, W): resize until the image covers it and crop the centre; None keeps the size.

    Returns:
        uint8 (3, H, W).

    Raises:
        MediaError: when the file is missing or is not one image.
    """
    with opened(path) as source:
        screen = Screen(source.name)
        frame = read_heif(source, screen)
        return to_rgb(_only_frame(source) if frame is None else frame, screen, size=size)


def _only_frame(source: Source) -> VideoFrame:
    if not source.has_video:
        raise MediaError(f"{source.name} is not an image; pass a png or jpg")
    if source.video.codec_context.name == "mjpeg":
        # the rest of half a jpg would be grey or green; other decoders would also stop at tags that they do not know
        source.video.codec_context.options = {"err_detect": "explode"}
    frames = list(islice(decoded(source, source.video), 2))
    if len(frames) != 1:
        kind = "is a video" if frames else "has no picture in it"
        raise MediaError(f"{source.name} {kind}, not an image; pass a png or jpg, for example one frame of it")
    if (n_streams := len(source.container.streams.video)) > 1:
        raise MediaError(f"{source.name} holds {n_streams} pictures, not one; save the one that you mean as png or jpg")
    assert isinstance(frames[0], VideoFrame)
    return frames[0]


def read_metadata(path: Path) -> dict[str, str]:
    """Read the tags of a media file; the `metadata` of `write_clip` comes back under its own keys."""
    with opened(path) as source:
        tags = dict(source.container.metadata)
    try:
        packed = json.loads(tags.get("description", ""))
    except ValueError:
        # of another program, for people
        return tags
    if isinstance(packed, dict):
        tags |= {str(key): str(value) for key, value in packed.items()}
        del tags["description"]
    return tags


_FRAME_RATE_FPS = 25.0
_SAMPLE_RATE_HZ = 16000
_PADDING = 1024
"""Samples of an AAC frame: sound that is longer than its picture by no more is the padding of the last one."""


def read_recording(path: str | PathLike[str], *, size: Size | None = None) -> Clip:
    """Read the clip of any method as it is: no resizing, no resampling, no cut, and no silence added.

    Differs from `read_clip` in what a score depends on: sound that is longer than the picture by more than a frame of
    the codec is kept, sound that is shorter is not filled up, a varying frame rate becomes the average one by taking
    the nearest frames, and a file without picture or without sound is a clip with 0 frames or 0 samples.

    Args:
        path: the file.
        size: (H, W) that the picture is made to cover, for looking at it; None, for scoring, keeps its size.

    Returns:
        Clip with F frames and S samples; rates of what is not there are 25 fps and 16 kHz.

    Raises:
        MediaError: when the file is missing, cannot be decoded or has neither picture nor sound.
    """
    with opened(path) as source:
        has_picture, has_sound = source.has_video, source.has_sound
        if not (has_picture or has_sound):
            raise MediaError(f"{source.name} has neither picture nor sound; pass a clip")
        frames, fps = torch.empty(0, 3, 0, 0, dtype=torch.uint8), _FRAME_RATE_FPS
        if has_picture:
            frames, fps = read_frames(source, 0.0, frame_rate(source.video), None, size)
    waveform, hz = torch.zeros(1, 0), _SAMPLE_RATE_HZ
    if has_sound:
        # a second look, because a container is read forwards only
        with opened(path) as source:
            waveform, hz = _sound(source)
    if not len(frames) and not waveform.numel():
        raise MediaError(f"{shown_name(path)} has streams without frames and without samples; pass another file")
    n_picture = round(len(frames) / fps * hz)
    if len(frames) and n_picture < waveform.shape[1] <= n_picture + _PADDING:
        waveform = waveform[:, :n_picture]
    return Clip(frames, waveform, fps, hz)


def _sound(source: Source) -> tuple[Tensor, int]:
    try:
        waveform, hz = samples(source, start_s=0.0 if source.has_video else None)
    except NoSamplesError:
        return torch.zeros(1, 0), _SAMPLE_RATE_HZ
    # limiting to [-1, 1] would turn what is infinite into loud sound; scorers refuse what is not a number
    return at_rate(waveform.masked_fill(waveform.isinf(), torch.nan), hz, None)


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
