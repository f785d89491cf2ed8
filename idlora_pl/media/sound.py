"""Decoded samples of one file, on a time axis whose 0 s is the first video frame.

Letters: S audio samples.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from torch import Tensor
from torchaudio.functional import resample

from idlora_pl.media.clip import MediaError
from idlora_pl.media.decoding import check_clock
from idlora_pl.media.source import Source, decoded, opened

SILENCE_RMS = 1e-4
"""Root mean square below which a recording is silent; a constant offset is no sound.

-80 dB of full scale, far below the background noise of any recording and above 16-bit rounding.
"""

# coarser than the time base of any container, finer than a gap that one would see on lips
_GAP_S = 0.05
# an audio decoder needs some packets before its first right sample
_PREROLL_S = 1.0
_LOWEST_HZ, _HIGHEST_HZ = 1000, 768_000

# -3 dB
_SIDE = 0.5**0.5


class NoSamplesError(MediaError):
    """There is a track without a single sample in it."""


class UnusableSoundError(MediaError):
    """A recording can be read, but not used; `reason` is "not_finite" or "silent"."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, eq=False)
class _Piece:
    """Samples that follow each other.

    Attributes:
        at: Index of the first one, from where the sound that is wanted begins.
        samples: float32 (channels, n).
    """

    at: int
    samples: np.ndarray

    @property
    def end(self) -> int:
        """Index of what follows."""
        return self.at + self.samples.shape[1]


def samples(source: Source, *, start_s: float | None = None, duration_s: float | None = None) -> tuple[Tensor, int]:
    """Return the sound as (float32 (channels, S) in [-1, 1], samples per second).

    Where the rate changes inside the file, every part is resampled to that of the first; where the number of channels
    changes, all are mixed to one or two.

    Args:
        source: the opened file.
        start_s: where to start, in seconds since the first video frame; None starts at the first sample.
        duration_s: how much to return; a shorter track is filled up with silence. None returns all of it.
    """
    begin_s = None if start_s is None else source.zero_s + start_s
    jumped = begin_s is not None and bool(start_s) and _jumped(source, begin_s - _PREROLL_S)
    pieces, rate = _placed(source, begin_s, duration_s)
    if jumped and (not pieces or pieces[0].at > 0):
        # some containers cannot seek to where sound is: then count from the start
        with opened(source.path) as again:
            pieces, rate = _placed(again, begin_s, duration_s)
    if not pieces:
        raise NoSamplesError(f"{source.name} has an audio stream without samples; record or export it again")
    if duration_s is None:
        n_decoded = sum(piece.samples.shape[1] for piece in pieces)
        check_clock(source.name, "sound", n_decoded / rate, pieces[-1].end / rate)
    return _joined(_alike(pieces), None if duration_s is None else round(duration_s * rate)), rate


def _jumped(source: Source, to_s: float) -> bool:
    """Go to a time on the file's own clock, unless it begins later."""
    if to_s * 1e6 <= (source.container.start_time or 0):
        return False
    source.container.seek(int(to_s * 1e6))
    return True


def _placed(source: Source, begin_s: float | None, duration_s: float | None) -> tuple[list[_Piece], int]:
    """Decode pieces, until there is sound for `duration_s`, and their samples per second."""
    pieces: list[_Piece] = []
    end, rate = 0, source.sound.codec_context.sample_rate
    for time, part, rate in _at_one_rate(source):  # noqa: B007
        at = end
        if begin_s is not None and time is not None:
            due = round((time - begin_s) * rate)
            # frames follow each other without a seam unless the file leaves a real gap
            at = due if not pieces or due - end > _GAP_S * rate else end
        pieces.append(_Piece(at, part))
        end = pieces[-1].end
        if duration_s is not None and end >= round(duration_s * rate):
            break
    return pieces, rate


def _at_one_rate(source: Source) -> Iterator[tuple[float | None, np.ndarray, int]]:
    """Yield (time on the file's own clock, float32 (channels, n), samples per second): the rate of the first frame.

    What belongs to a frame whose time is known comes with it; the rest follows what was before.
    """
    rate, kind, resampler = 0, None, None
    for frame in decoded(source, source.sound):
        assert isinstance(frame, AudioFrame)
        rate = rate or _believable(frame.sample_rate, source.name)
        if (now := (frame.sample_rate, frame.layout.name, frame.format.name)) != kind:
            if resampler is not None:
                yield from ((None, _by_channel(part), rate) for part in resampler.resample(None))
            kind, resampler = now, AudioResampler(format="flt", rate=rate)
        assert resampler is not None
        time = frame.time
        for part in resampler.resample(frame):
            # the filter that changes a rate gives samples later than it takes them
            yield (time if frame.sample_rate == rate else None), _by_channel(part), rate
            time = None
    if resampler is not None:
        yield from ((None, _by_channel(part), rate) for part in resampler.resample(None))


def _believable(rate_hz: int, name: str) -> int:
    """Return a rate; a damaged header may say one that no recorder has, and resampling that fills the memory."""
    if not _LOWEST_HZ <= rate_hz <= _HIGHEST_HZ:
        raise MediaError(f"{name} claims {rate_hz} samples per second of sound; correct its header, or fetch it again")
    return rate_hz


def _by_channel(frame: AudioFrame) -> np.ndarray:
    """Return a frame whose channels take turns as (channels, n); PyAV reads past the end of 8 or more that do not."""
    return frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T


def _alike(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Give all pieces the same number of channels, at most two where they differ."""
    if len({len(piece.samples) for piece in pieces}) == 1:
        return list(pieces)
    mixed = [mixed_down(torch.from_numpy(piece.samples)).numpy() for piece in pieces]
    widest = max(len(part) for part in mixed)
    return [
        _Piece(piece.at, np.broadcast_to(part, (widest, part.shape[1])) if len(part) < widest else part)
        for piece, part in zip(pieces, mixed, strict=True)
    ]


def _joined(pieces: Sequence[_Piece], wanted: int | None) -> Tensor:
    """Lay the pieces on one strip of silence, (channels, wanted); what lies outside is cut."""
    total = pieces[-1].end if wanted is None else wanted
    strip = np.zeros((len(pieces[-1].samples), max(total, 0)), np.float32)
    for piece in pieces:
        low, high = max(piece.at, 0), min(piece.end, total)
        if low < high:
            strip[:, low:high] = piece.samples[:, low - piece.at : high - piece.at]
    return torch.from_numpy(strip)


def finite(waveform: Tensor, rate_hz: int, name: str, fix: str = "record or export it again") -> Tensor:
    """Return a waveform (channels, S) that consists of numbers.

    Args:
        waveform: Samples.
        rate_hz: Their rate.
        name: Of the file, for the message.
        fix: What to do about it, for the message.

    Raises:
        UnusableSoundError: A sample is infinite or not a number.
    """
    broken = ~waveform.isfinite().all(0)
    if broken.any():
        first = int(broken.nonzero()[0])
        raise UnusableSoundError(
            "not_finite",
            f"{name} has samples that are infinite or not a number ({int(broken.sum())} of {len(broken)}, the first at "
            f"{first / rate_hz:.4g} s); {fix}",
        )
    return waveform


def is_silent(waveform: Tensor) -> bool:
    """Say whether a waveform (..., S) stays below SILENCE_RMS, whatever constant it lies on."""
    return bool((waveform - waveform.mean(-1, keepdim=True)).square().mean().sqrt() < SILENCE_RMS)


def audible(waveform: Tensor, name: str) -> Tensor:
    """Return a waveform (channels, S) in which something can be heard.

    Args:
        waveform: Samples.
        name: Of the file, for the message.

    Raises:
        UnusableSoundError: It is silent.
    """
    if is_silent(waveform):
        raise UnusableSoundError(
            "silent", f"{name} is silent (below {20 * math.log10(SILENCE_RMS):.0f} dBFS); give a recording of a voice"
        )
    return waveform


def at_rate(waveform: Tensor, rate_hz: int, wanted_hz: int | None) -> tuple[Tensor, int]:
    """Resample (channels, S) to `wanted_hz` (None: leave it) and limit it to [-1, 1]."""
    if wanted_hz is not None and wanted_hz != rate_hz:
        waveform, rate_hz = resample(waveform, rate_hz, wanted_hz), wanted_hz
    return waveform.clamp(-1.0, 1.0), rate_hz


def mixed_down(waveform: Tensor) -> Tensor:
    """Mix (channels, S) of more than two channels to two.

    In FFmpeg's order of six and eight channels (front left, front right, centre, bass, then those behind) the bass is
    left out and the others enter at -3 dB, as its own mixing does; channels without a known place are averaged.
    """
    n_channels = len(waveform)
    if n_channels <= 2:
        return waveform
    if n_channels not in (6, 8):
        return waveform.mean(0, keepdim=True)
    left, right, centre = waveform[:3]
    behind = waveform[4:]
    sides = torch.stack([left + _SIDE * behind[0::2].sum(0), right + _SIDE * behind[1::2].sum(0)])
    return (sides + _SIDE * centre) / (1 + _SIDE + _SIDE * (n_channels - 4) / 2)


def fitted(waveform: Tensor, n_samples: int) -> Tensor:
    """Cut (channels, S) to `n_samples`, or fill it up with silence."""
    return torch.nn.functional.pad(waveform[:, :n_samples], (0, max(0, n_samples - waveform.shape[1])))
