"""Clean the voice of one clip, what a worker of clean_reference does; how loud it is, and how far above its noise.

Letters: C channels, S samples, N frames of 32 ms.
"""

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from data_tools.verb.lists import RejectedError, Row
from idlora_pl.media.clip import MediaError
from idlora_pl.media.reading import read_recording
from idlora_pl.media.sound import is_silent, mixed_down
from idlora_pl.media.writing import write_audio

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


N_FFT_S = 0.032


class Denoiser(Protocol):
    """Takes noise out of a recording."""

    def denoise(self, waveform: np.ndarray, rate_hz: int) -> np.ndarray:
        """Return a recording float32 (C, S) in [-1, 1] without its noise, of the same shape and not delayed."""


class SpectralGate:
    """Spectral gating of the library noisereduce (Sainburg, MIT licence); needs no weights.

    The noise that is gated is measured in the quietest tenth of the recording itself: without that the library takes
    the whole recording for noise, and cuts into speech. What is gated is lowered by 20 dB, not removed, which leaves
    no holes.
    """

    def denoise(self, waveform: np.ndarray, rate_hz: int) -> np.ndarray:
        """Denoise each channel of a recording (C, S)."""
        from noisereduce import reduce_noise

        size = 1 << round(np.log2(N_FFT_S * rate_hz))
        settings = {"n_fft": size, "stationary": True, "prop_decrease": 0.9}
        cleaned = [
            reduce_noise(channel, rate_hz, y_noise=quiet, **settings)
            for channel, quiet in zip(waveform, quiet_part(waveform, rate_hz), strict=True)
        ]
        return np.stack(cleaned).astype(np.float32)


BACKENDS = {"noisereduce": SpectralGate}
_PACKAGES = {"noisereduce": "noisereduce"}


def load_denoiser(backend: str) -> tuple[Denoiser, str]:
    """Return a denoiser, and its name with the version of its library, on which its results depend.

    Args:
        backend: a key of `BACKENDS`, or "package.module:Class" of a class of your own without arguments.

    Raises:
        ValueError: there is no such backend, or its library is not installed.
    """
    if backend in BACKENDS:
        package = _PACKAGES[backend]
        try:
            return BACKENDS[backend](), f"{package} {version(package)}"
        except PackageNotFoundError:
            raise ValueError(
                f"--backend {backend} needs {package}, which is not installed; pip install 'idlora_pl[data]'"
            ) from None
    module, _, name = backend.partition(":")
    if not name:
        raise ValueError(f"--backend must be one of {', '.join(BACKENDS)} or 'package.module:Class'; got '{backend}'")
    try:
        found = getattr(import_module(module), name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"--backend {backend} cannot be made ({error}); name a class without arguments") from error
    if not callable(getattr(found, "denoise", None)):
        raise ValueError(f"--backend {backend} has no method denoise(waveform, rate_hz); add it")
    return found, backend


FRAME_S = 0.032
QUIET_SHARE = 0.1
"""The quietest tenth of a recording is taken for its noise: speech has pauses, and sounds that end."""
_FLOOR = 1e-12


def _framed(waveform: np.ndarray, rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Return frames (N, C, frame) and their indices from the quietest to the loudest."""
    size = max(1, round(FRAME_S * rate_hz))
    count = waveform.shape[1] // size
    frames = waveform[:, : count * size].reshape(len(waveform), count, size).swapaxes(0, 1)
    return frames, np.argsort(np.square(frames, dtype=np.float64).mean((1, 2)), kind="stable")


def quiet_part(waveform: np.ndarray, rate_hz: int) -> np.ndarray:
    """Return the quietest frames of a recording (C, S) one after the other, at least four of them: (C, samples)."""
    frames, order = _framed(waveform, rate_hz)
    chosen = np.sort(order[: max(4, int(QUIET_SHARE * len(order)))])
    return frames[chosen].swapaxes(0, 1).reshape(len(waveform), -1)


def level_dbfs(waveform: np.ndarray) -> float:
    """Return the level of a recording (C, S) in [-1, 1]: dB of its root mean square below full scale.

    Example:
        >>> round(level_dbfs(np.full((1, 100), 0.1)), 3)
        -20.0
    """
    return 10 * float(np.log10(max(np.square(waveform, dtype=np.float64).mean(), _FLOOR)))


def snr_db(waveform: np.ndarray, rate_hz: int) -> float:
    """Estimate the ratio of speech to noise of a recording (C, S) in dB, between -20 and 100.

    Noise is the mean power of the quietest tenth of the frames, speech the mean power of all less that. Speech
    without any pause is taken for noise in part, so the estimate is then too low.
    """
    frames, order = _framed(waveform, rate_hz)
    power = np.square(frames, dtype=np.float64).mean((1, 2))
    noise = power[order[: max(1, int(QUIET_SHARE * len(order)))]].mean()
    speech = max(power.mean() - noise, _FLOOR)
    return float(np.clip(10 * np.log10(speech / max(noise, _FLOOR)), -20.0, 100.0))
