"""Clean the voice of one clip: what a worker of clean_reference does."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_tools.verb.lists import RejectedError, Row
from data_tools.voices.denoisers import load_denoiser
from data_tools.voices.noise import level_dbfs, snr_db
from idlora_pl.media import MediaError, read_recording, write_audio
from idlora_pl.media.sound import is_silent, mixed_down

LEAST_S = 0.5


@dataclass(frozen=True)
class Voice:
    """One voice to clean.

    Attributes:
        key: of its clip.
        path: its file, sound or video.
        target: the wav file to write.
        backend: of `voices.denoisers`.
        clean_above_db: estimated ratio of speech to noise from which a voice is left as it is.
    """

    key: str
    path: Path
    target: Path
    backend: str
    clean_above_db: float


def clean_voice(voice: Voice) -> list[Row]:
    """Clean one voice; return one row: what was measured, or a "reason" and a "detail".

    Raises:
        OSError: when the file cannot be written.
    """
    try:
        return [_cleaned(voice)]
    except RejectedError as error:
        return [{"reason": error.reason, "detail": error.detail}]


def check_sound(waveform: Tensor, rate_hz: int) -> np.ndarray:
    """Return a recording (channels, S) with one or two channels, as float32 (C, S).

    Raises:
        RejectedError: no_audio, not_finite, too_short or silent.
    """
    if waveform.numel() == 0:
        raise RejectedError("no_audio", "there is no sound in it")
    if not torch.isfinite(waveform).all():
        raise RejectedError("not_finite", "a sample is infinite or not a number")
    if (duration_s := waveform.shape[1] / rate_hz) < LEAST_S:
        raise RejectedError("too_short", f"{duration_s:.2f} s, {LEAST_S:g} s are needed")
    sound = mixed_down(waveform.float()).numpy()
    if is_silent(torch.from_numpy(sound)):
        raise RejectedError("silent", f"{level_dbfs(sound):.1f} dBFS, or nothing but a constant")
    return sound


def _cleaned(voice: Voice) -> Row:
    try:
        clip = read_recording(voice.path)
    except (MediaError, ArithmeticError, MemoryError, EOFError) as error:
        raise RejectedError("unreadable", str(error) or type(error).__name__) from error
    rate_hz = clip.sample_rate_hz
    sound = check_sound(clip.waveform, rate_hz)
    before = {"level_before_dbfs": round(level_dbfs(sound), 2), "snr_before_db": round(snr_db(sound, rate_hz), 2)}
    if before["snr_before_db"] >= voice.clean_above_db:
        return before | {"cleaned": False}
    denoiser, _ = load_denoiser(voice.backend)
    cleaned = denoiser.denoise(sound, rate_hz)
    if cleaned.shape != sound.shape or not np.isfinite(cleaned).all():
        raise RejectedError("bad_backend", f"{voice.backend} gave {cleaned.shape} for {sound.shape}, or no numbers")
    write_audio(torch.from_numpy(cleaned).clamp(-1, 1), voice.target, rate_hz)
    after = {"level_after_dbfs": round(level_dbfs(cleaned), 2), "snr_after_db": round(snr_db(cleaned, rate_hz), 2)}
    return before | after | {"cleaned": True}
