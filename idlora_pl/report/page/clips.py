"""Copies of clips for a page: named by their content, playable in browsers, with a still and a picture of the sound.

The picture is the waveform, and under it the log-mel spectrogram.
Letters: F frames, H W pixels, S samples, W columns of pixels, M mel bands.
"""

import functools
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from hashlib import file_digest
from pathlib import Path

import matplotlib
import matplotlib.image
import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import resample
from torchaudio.transforms import MelSpectrogram

from idlora_pl.media.clip import MediaError
from idlora_pl.media.reading import Codecs, codecs_of, middle_frame, read_audio, read_metadata, read_recording
from idlora_pl.media.writing import write_audio, write_clip
from idlora_pl.report.page.document import Shown

POSTER_WIDTH = 384
_LONG_SIDE = 960
"""Clips that are encoded anew get no larger than this."""
_AAC_RATE_HZ = 48000
_DIGITS = 16
_MP4_PICTURES, _MP4_PIXELS, _MP4_SOUNDS = ("h264", ""), ("yuv420p", "yuvj420p", ""), ("aac", "mp3", "mp3float", "")
_WEBM_PICTURES, _WEBM_SOUNDS = ("vp8", "vp9", ""), ("opus", "vorbis", "")
_SOUND_FILES = {"mp3": ".mp3", "wav": ".wav", "flac": ".flac"}


def copied(paths: Iterable[str], folder: Path, *, workers: int | None = None) -> Iterator[tuple[str, Shown]]:
    """Copy clips into `folder/clips` and draw them, several at once; yield each path as it is done.

    Files of the same content become one. A file that is missing or broken is shown as such, with the reason.

    Args:
        paths: Relative to the current folder.
        folder: Of the page.
        workers: How many at once; None takes one a core.
    """
    for name in ("clips", "pictures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    by_digest: dict[str, list[str]] = {}
    for path in paths:
        if not Path(path).is_file():
            yield path, Shown(Path(path).name, said="the file is not there")
            continue
        with open(path, "rb") as file:
            by_digest.setdefault(file_digest(file, "sha256").hexdigest(), []).append(path)
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        jobs: dict[Future[Shown], list[str]] = {
            pool.submit(_copied, same[0], digest, folder): same for digest, same in by_digest.items()
        }
        try:
            for done in as_completed(jobs):
                for path in jobs[done]:
                    yield path, done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def ending_for(codecs: Codecs) -> str:
    """Return the ending under which browsers play a file as it is; "" when they do not.

    Example:
        >>> ending_for(Codecs("mov,mp4,m4a,3gp,3g2,mj2", "h264", "yuv420p", "aac"))
        '.mp4'
        >>> ending_for(Codecs("mov,mp4,m4a,3gp,3g2,mj2", "hevc", "yuv420p", "aac"))
        ''
    """
    names = codecs.container.split(",")
    playable = codecs.picture in _MP4_PICTURES and codecs.pixels in _MP4_PIXELS and codecs.sound in _MP4_SOUNDS
    if "mp4" in names:
        return (".mp4" if codecs.picture else ".m4a") if playable else ""
    if "webm" in names and codecs.picture in _WEBM_PICTURES and codecs.sound in _WEBM_SOUNDS:
        return ".webm"
    return "" if codecs.picture else _SOUND_FILES.get(names[0], "")


def _copied(path: str, digest: str, folder: Path) -> Shown:
    """Copy or encode one file and draw what is in it."""
    shown = Shown(Path(path).name, digest=digest)
    stem = digest[:_DIGITS]
    try:
        codecs = codecs_of(path)
        frame = middle_frame(path) if codecs.picture else None
        ending = ending_for(codecs)
        if ending:
            shutil.copyfile(path, folder / "clips" / f"{stem}{ending}")
        else:
            ending = ".wav" if frame is None else ".mp4"
            shown = replace(shown, said=_encode(path, codecs, frame, folder / "clips" / f"{stem}{ending}"))
    except ValueError as error:
        why = " ".join(str(error).replace(path, "the file").split())
        return replace(shown, said=f"cannot be played: {why}")
    shown = replace(shown, src=f"clips/{stem}{ending}", kind="audio" if frame is None else "video")
    if frame is not None:
        shown = _with_poster(shown, frame, folder, stem)
    return _with_sound(shown, path, folder, stem) if codecs.sound else shown


def _encode(path: str, codecs: Codecs, frame: Tensor | None, to: Path) -> str:
    """Encode a file as browsers play it, and say so; `frame` (3, H, W) tells the size of its picture."""
    made_of = " and ".join(name for name in (codecs.picture, codecs.sound) if name)
    if frame is None:
        waveform, rate = read_audio(path)
        write_audio(_stereo(waveform), to, rate)
        return f"encoded anew: {made_of} to wav"
    scale = min(1.0, _LONG_SIDE / max(frame.shape[1:]))
    height, width = (max(2, round(side * scale / 2) * 2) for side in frame.shape[1:])
    clip = read_recording(path, size=(height, width))
    waveform = _stereo(resample(clip.waveform, clip.sample_rate_hz, _AAC_RATE_HZ))
    if not waveform.numel():
        waveform = torch.zeros(1, round(clip.duration_s * _AAC_RATE_HZ))
    # the label of a generated clip stands in its comment, which is kept
    clip = replace(clip, waveform=waveform, sample_rate_hz=_AAC_RATE_HZ)
    write_clip(clip, to, metadata=read_metadata(path), generated=False)
    return f"encoded anew: {made_of} to h264 and aac, {width} x {height}"


def _stereo(waveform: Tensor) -> Tensor:
    """Mix (channels, S) down where there are more than two channels."""
    return waveform if len(waveform) <= 2 else waveform.mean(0, keepdim=True)


def _with_poster(shown: Shown, frame: Tensor, folder: Path, stem: str) -> Shown:
    """Write a small still of uint8 (3, H, W)."""
    height, width = frame.shape[1:]
    if width > POSTER_WIDTH:
        small = (max(1, round(height * POSTER_WIDTH / width)), POSTER_WIDTH)
        frame = torch.nn.functional.interpolate(frame[None].float(), small, mode="area")[0].round().byte()
    name = f"pictures/{stem}.jpg"
    _write_picture(frame.permute(1, 2, 0).numpy(), folder / name)
    return replace(shown, poster=name, wide=round(width / height, 3))


def _with_sound(shown: Shown, path: str, folder: Path, stem: str) -> Shown:
    """Write the picture of the sound."""
    try:
        waveform, rate = read_audio(path)
    except MediaError:
        return replace(shown, said=f"{shown.said}; its sound cannot be decoded".removeprefix("; "))
    if waveform.shape[1] == 0:
        return shown
    name = f"pictures/{stem}-sound.jpg"
    _write_picture(sound_picture(waveform, rate), folder / name)
    return replace(shown, sound=name, sound_s=round(waveform.shape[1] / rate, 4))


def _write_picture(pixels: np.ndarray, path: Path) -> None:
    matplotlib.image.imsave(path, pixels, format="jpeg", pil_kwargs={"quality": 80})


RATE_HZ = 16000
PIXELS_PER_SECOND = 120
WAVE_HEIGHT, N_MELS, TICK_HEIGHT = 44, 80, 8
LOW_HZ, HIGH_HZ = 50.0, 8000.0
QUIET_DB, LOUD_DB = -85.0, -5.0
_MAX_WIDTH = 2400
_WINDOW = 640
_INK, _PAPER, _LINE = (90, 150, 230), (16, 16, 24), (150, 150, 160)


def sound_picture(waveform: Tensor, rate_hz: int) -> np.ndarray:
    """Draw a sound, with the same scales for every sound so that pictures can be compared.

    Args:
        waveform: (channels, S) in [-1, 1], S > 0; channels are averaged.
        rate_hz: Samples per second.

    Returns:
        uint8 (132, W, 3): the waveform (square root of the amplitude, so that quiet speech shows), 80 mel bands from
        50 Hz to 8 kHz (the highest on top) from -85 dB to -5 dB, and a strip with a tick each half second, long ones
        at whole seconds.

    Example:
        >>> sound_picture(torch.zeros(1, 32000), 16000).shape
        (132, 240, 3)
    """
    mono = waveform.nan_to_num(0.0, 0.0, 0.0).clamp(-1.0, 1.0).mean(0)
    if rate_hz != RATE_HZ:
        mono = resample(mono, rate_hz, RATE_HZ)
    duration_s = len(mono) / RATE_HZ
    width = min(_MAX_WIDTH, max(1, round(duration_s * PIXELS_PER_SECOND)))
    return np.concatenate([_wave(mono, width), _mel(mono, width), _ticks(duration_s, width)])


def _wave(mono: Tensor, width: int) -> np.ndarray:
    """Draw from the lowest to the highest sample of each column."""
    edges = np.linspace(0, len(mono), width + 1).astype(int)
    samples = mono.numpy()
    starts = np.minimum(edges[:-1], len(samples) - 1)
    low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    low, high = (np.sign(end) * np.abs(end) ** 0.5 for end in (low, high))
    middle = (WAVE_HEIGHT - 1) / 2
    row = np.arange(WAVE_HEIGHT)[:, None]
    drawn = (row >= np.floor(middle - high * middle)) & (row <= np.ceil(middle - low * middle))
    picture = np.full((WAVE_HEIGHT, width, 3), _PAPER, np.uint8)
    picture[drawn] = _INK
    return picture


@functools.cache
def _mels(hop: int) -> MelSpectrogram:
    # "window" divides by the window's energy, so that the level does not depend on its length
    return MelSpectrogram(
        RATE_HZ, 1024, win_length=_WINDOW, hop_length=hop, f_min=LOW_HZ, f_max=HIGH_HZ, n_mels=N_MELS,
        normalized="window",
    )  # fmt: skip


def _mel(mono: Tensor, width: int) -> np.ndarray:
    padded = torch.nn.functional.pad(mono, (0, max(0, 1024 - len(mono))))
    energy = _mels(max(1, len(mono) // width))(padded)
    columns = torch.linspace(0, (len(mono) - 1) / max(1, len(mono) // width), width).round().long()
    level_db = 10 * torch.log10(energy[:, columns.clamp(max=energy.shape[1] - 1)] + 1e-12)
    shade = ((level_db - QUIET_DB) / (LOUD_DB - QUIET_DB)).clamp(0, 1).flip(0)
    return _colours()[(shade * 63).round().long().numpy()]


@functools.cache
def _colours() -> np.ndarray:
    """Return 64 colours: few enough that a PNG stays small."""
    found = matplotlib.colormaps["magma"](np.linspace(0, 1, 64))[:, :3]
    return np.asarray((found * 255).round(), np.uint8)


def _ticks(duration_s: float, width: int) -> np.ndarray:
    strip = np.full((TICK_HEIGHT, width, 3), _PAPER, np.uint8)
    for half in range(1, int(duration_s * 2) + 1):
        at = min(width - 1, round(half / 2 / duration_s * width))
        strip[: TICK_HEIGHT if half % 2 == 0 else TICK_HEIGHT // 2, at] = (230, 230, 230) if half % 2 == 0 else _LINE
    return strip
