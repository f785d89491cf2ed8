"""Files whose right answer is known: coloured corners, one tone throughout, a flash with a click."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from torch import Tensor

CORNERS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (240, 240, 240)}
UPRIGHT = ["red", "green", "blue", "white"]


def four_corners(height: int = 64, width: int = 48) -> np.ndarray:
    """A picture (H, W, 3) with a red, green, blue and white quarter, in the order of reading."""
    picture = np.zeros((height, width, 3), np.uint8)
    for k, name in enumerate(UPRIGHT):
        rows, columns = slice(None, height // 2), slice(None, width // 2)
        if k >= 2:
            rows = slice(height // 2, None)
        if k % 2:
            columns = slice(width // 2, None)
        picture[rows, columns] = CORNERS[name]
    return picture


def corners_of(picture: Tensor) -> list[str]:
    """Name the colours of the four corners of uint8 (3, H, W) in the order of reading."""
    names = {tuple(value > 128 for value in colour): name for name, colour in CORNERS.items()}
    places = ((5, 5), (5, -6), (-6, 5), (-6, -6))
    return [names.get(tuple((picture[:, y, x] > 128).tolist()), "?") for y, x in places]


def write_pictures_only(path: Path, pictures: list[np.ndarray], *, codec: str = "libx264", rotation: int = 0) -> None:
    """Write a video of RGB pictures at 25 fps with a short tone, without our own writer."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25)
        video.height, video.width, video.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        if rotation:
            video.set_display_rotation(rotation)
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = k
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(tone(16000, len(pictures) / 25), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        container.mux([*sound.encode(frame), *sound.encode(None)])


def tone(rate_hz: int, seconds: float, *, pitch_hz: float = 440.0, channels: int = 1) -> np.ndarray:
    """Float32 (channels, S) of 440 Hz at 0.3 of full scale."""
    wave = 0.3 * np.sin(2 * np.pi * pitch_hz * np.arange(round(rate_hz * seconds)) / rate_hz)
    return np.repeat(wave[None].astype(np.float32), channels, 0)


def pitch_of(waveform: np.ndarray, rate_hz: int) -> float:
    """Loudest frequency of (S,) samples."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(spectrum.argmax() * rate_hz / len(waveform))


def write_tone(
    path: Path,
    rate_hz: int,
    *,
    seconds: float = 1.0,
    channels: int = 1,
    codec: str = "pcm_s16le",
    form: str | None = None,
) -> None:
    """Write a tone with PyAV; mp3 without the tags that do not belong into the middle of a file."""
    options = {"id3v2_version": "0", "write_xing": "0"} if form == "mp3" else {}
    with av.open(str(path), "w", format=form, options=options) as container:
        layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        wave = tone(rate_hz, seconds, channels=channels)
        for at in range(0, wave.shape[1], 960):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(wave[:, at : at + 960]), format="fltp", layout=layout
            )
            frame.sample_rate, frame.pts, frame.time_base = rate_hz, at, Fraction(1, rate_hz)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_floats(path: Path, values: np.ndarray, rate_hz: int = 16000) -> None:
    """Write float32 (1, S), numbers or not."""
    with av.open(str(path), "w", format="wav") as container:
        stream = container.add_stream("pcm_f32le", rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(values.astype(np.float32), format="flt", layout="mono")
        frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
        container.mux([*stream.encode(frame), *stream.encode(None)])
