"""Decoded samples of one file, on a time axis whose 0 s is the first video frame.

Letters: S audio samples.
"""

import av
import numpy as np
import torch
from av.container import InputContainer
from torch import Tensor
from torchaudio.functional import resample

from idlora_pl.media.clip import MediaError
from idlora_pl.media.decoding import origin_s
from idlora_pl.media.memory import check_clock

# coarser than the time base of any container, finer than a gap that one would see on lips
_GAP_S = 0.05
# an audio decoder needs some packets before its first right sample
_PREROLL_S = 1.0


class NoSamplesError(MediaError):
    """There is a track without a single sample in it."""


def samples(
    container: InputContainer, *, start_s: float | None = None, duration_s: float | None = None
) -> tuple[Tensor, int]:
    """Return the sound as (float32 (channels, S) in [-1, 1], samples per second).

    Args:
        container: the opened file.
        start_s: where to start, in seconds since the first video frame; None starts at the first sample.
        duration_s: how much to return; a shorter track is filled up with silence. None returns all of it.
    """
    if not container.streams.audio:
        raise MediaError(f"{container.name} has no audio stream; pass a file with sound")
    rate = container.streams.audio[0].codec_context.sample_rate
    begin_s = None if start_s is None else origin_s(container) + start_s
    if begin_s is not None and start_s:
        container.seek(max(0, int((begin_s - _PREROLL_S) * 1e6)))
    wanted = None if duration_s is None else round(duration_s * rate)
    pieces = _placed(container, rate, begin_s, wanted)
    if not pieces:
        raise NoSamplesError(f"{container.name} has an audio stream without samples; record or export it again")
    if wanted is None:
        decoded, end = sum(piece.shape[1] for _, piece in pieces), pieces[-1][0] + pieces[-1][1].shape[1]
        check_clock(container.name, "sound", decoded / rate, end / rate)
    return _joined(pieces, wanted), rate


def _placed(
    container: InputContainer, rate: int, begin_s: float | None, wanted: int | None
) -> list[tuple[int, np.ndarray]]:
    """Decode (index of the first sample, float32 (channels, n)) until `wanted` samples are there."""
    to_float = av.AudioResampler(format="fltp")
    pieces: list[tuple[int, np.ndarray]] = []
    end = 0
    for frame in container.decode(audio=0):
        at = end
        if begin_s is not None and frame.time is not None:
            due = round((frame.time - begin_s) * rate)
            # frames follow each other without a seam unless the file leaves a real gap
            at = due if not pieces or due - end > _GAP_S * rate else end
        for part in to_float.resample(frame):
            piece = part.to_ndarray()
            pieces.append((at, piece))
            at += piece.shape[1]
        end = at
        if wanted is not None and end >= wanted:
            break
    return pieces


def _joined(pieces: list[tuple[int, np.ndarray]], wanted: int | None) -> Tensor:
    """Lay the pieces on one strip of silence, (channels, wanted); what lies outside is cut."""
    last_at, last = pieces[-1]
    total = last_at + last.shape[1] if wanted is None else wanted
    strip = np.zeros((last.shape[0], max(total, 0)), np.float32)
    for at, piece in pieces:
        low, high = max(at, 0), min(at + piece.shape[1], total)
        if low < high:
            strip[:, low:high] = piece[:, low - at : high - at]
    return torch.from_numpy(strip)


def at_rate(waveform: Tensor, rate_hz: int, wanted_hz: int | None) -> tuple[Tensor, int]:
    """Resample (channels, S) to `wanted_hz` (None: leave it) and limit it to [-1, 1]."""
    if wanted_hz is not None and wanted_hz != rate_hz:
        waveform, rate_hz = resample(waveform, rate_hz, wanted_hz), wanted_hz
    return waveform.clamp(-1.0, 1.0), rate_hz


def fitted(waveform: Tensor, n_samples: int) -> Tensor:
    """Cut (channels, S) to `n_samples`, or fill it up with silence."""
    return torch.nn.functional.pad(waveform[:, :n_samples], (0, max(0, n_samples - waveform.shape[1])))
