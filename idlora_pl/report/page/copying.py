"""Copies of clips for a page: named by their content, playable in browsers, with a still and a picture of the sound.

Letters: F frames, H W pixels.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from hashlib import file_digest
from pathlib import Path

import matplotlib.image
import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import resample

from idlora_pl.media import (
    Codecs,
    MediaError,
    codecs_of,
    middle_frame,
    read_audio,
    read_metadata,
    read_recording,
    write_audio,
    write_clip,
)
from idlora_pl.report.page.picture import sound_picture
from idlora_pl.report.page.shown import Shown

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
