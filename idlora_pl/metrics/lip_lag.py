"""How far the sound runs ahead of the opening of the mouth, by cross-correlation of two curves at 100 Hz.

Over a whole clip and in windows of it. Letters: S samples, F frames, T steps of 10 ms.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.chance import chance_correlation
from idlora_pl.metrics.clip_mean import ClipScore, mono, scored
from idlora_pl.metrics.embedders import MouthReader
from idlora_pl.metrics.lips import TalkingClipMean
from idlora_pl.metrics.scorable import Unscorable, check_frames, check_waveform
from idlora_pl.results.row import AT_EDGE, BY_CHANCE, Curve

STEPS_PER_FRAME = 4
"""Lags are in frames of 0.04 s whatever the frame rate, as SyncNet's offset is."""
STEPS_PER_SECOND = 100
STILL = 1e-3
"""Least standard deviation of the mouth's opening, in distances between the irises, and of the level in dB."""


def lag_correlations(mouth: Tensor, level: Tensor, max_lag: int) -> Tensor:
    """Correlate curves (T,) at every lag of 10 ms; the middle entry is lag zero, later ones have the sound ahead.

    Raises:
        Unscorable: `mouth_still` or `sound_steady` where a curve does not move.
    """
    if mouth.std() < STILL:
        raise Unscorable("mouth_still")
    if level.std() < STILL:
        raise Unscorable("sound_steady")
    reach, steps = max_lag * STEPS_PER_FRAME, len(mouth)
    # the mouth belongs to the level `ahead` steps before it; each lag has a row, of the steps that both have
    heard = torch.arange(steps) - torch.arange(-reach, reach + 1)[:, None]
    both = (heard >= 0) & (heard < steps)
    seen = _unit_rows(mouth.expand_as(heard), both)
    return (seen * _unit_rows(level[heard.clamp(0, steps - 1)], both)).sum(1).clamp(-1, 1)


def peak_of(correlations: Tensor) -> tuple[float, float]:
    """Return by how many frames of 0.04 s the sound is ahead where it correlates most, and the correlation there.

    The place is refined with a parabola through the highest entry and its neighbours.

    Example:
        >>> peak_of(torch.tensor([0.0, 0.1, 0.2, 0.6, 0.2]))
        (0.25, 0.6000000238418579)
    """
    best, shift = int(correlations.argmax()), 0.0
    if 0 < best < len(correlations) - 1:
        before, here, after = correlations[best - 1 : best + 2].tolist()
        bend = before - 2 * here + after
        shift = 0.5 * (before - after) / bend if bend else 0.0
    return (best - len(correlations) // 2 + shift) / STEPS_PER_FRAME, correlations[best].item()


def doubts_of(correlations: Tensor, duration_s: float) -> list[str]:
    """Return why the highest of correlations (see `lag_correlations`) may be no lag, in the words of `DOUBTS`."""
    best = int(correlations.argmax())
    said = [AT_EDGE] if best in (0, len(correlations) - 1) else []
    if round(correlations[best].item(), 3) <= chance_correlation(duration_s)[0]:
        said.append(f"{BY_CHANCE} ({chance_correlation(duration_s)[0]:.2f} in {duration_s:.1f} s)")
    return said


def windowed_peaks(
    mouth: Tensor, level: Tensor, max_lag: int, window: int, hop: int
) -> list[tuple[float | None, float | None, bool]]:
    """Return lag and correlation (see `peak_of`) in windows of mouth and level (T,); a shorter clip is one window.

    The third entry says whether the lag may be none (see `doubts_of`). Lag and correlation are None where a curve does
    not move.
    """
    found: list[tuple[float | None, float | None, bool]] = []
    for start in range(0, max(1, len(mouth) - window + 1), hop):
        inside = slice(start, start + window)
        try:
            correlations = lag_correlations(mouth[inside], level[inside], max_lag)
        except Unscorable:
            found.append((None, None, False))
        else:
            duration_s = len(mouth[inside]) / STEPS_PER_SECOND
            found.append((*peak_of(correlations), bool(doubts_of(correlations, duration_s))))
    return found


def _unit_rows(curves: Tensor, kept: Tensor) -> Tensor:
    """Take each row's own mean from what is kept of it and divide by its length; what is not kept is 0."""
    apart = curves - (curves * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True)
    return torch.nn.functional.normalize(apart * kept, dim=1, eps=0.0)


STEP_HZ = STEPS_PER_SECOND
VOICE_HZ = (250.0, 3500.0)
SYLLABLES_HZ = (2.0, 8.0)
"""What is kept of both curves: the rate at which mouths open and close in speech."""
ENERGY_WINDOW_S = 0.04
FLOOR_DB = 50.0
"""Sound this far below the loudest step counts as silence, so that the depth of a pause does not matter."""
MIN_DURATION_S = 1.0
MAX_LOST_SHARE = 0.25
CURVE_WINDOW, CURVE_HOP = 200, 20
"""Steps of a window of the lag over time, and between windows: shorter ones hold too few syllables."""


class LipLag(TalkingClipMean):
    """Means of ``lip_lag_landmarks`` (frames of 0.04 s, + when sound is early) and ``lip_corr_landmarks`` over clips.

    The second is the correlation at that lag. One short clip is noisy: the correlation of unrelated curves also has a
    highest point, of 0.60 in 1 s and 0.34 in 3 s on average (`chance_correlation`). A lag whose correlation is no
    higher, and one at the largest lag, keeps its value and is marked: the detail `lip_lag_landmarks_doubt` says why.

    Args:
        reader: Measures how far the mouth is open.
        max_lag: Largest lag in frames of 0.04 s.
        kwargs: Passed to ``torchmetrics.Metric``.
    """

    distances = ("lip_lag_landmarks",)

    def __init__(self, reader: MouthReader, *, max_lag: int = 10, **kwargs: bool) -> None:
        super().__init__(("lip_lag_landmarks", "lip_corr_landmarks"), **kwargs)
        if max_lag < 1:
            raise ValueError(f"max_lag must be >= 1; got {max_lag}")
        self.reader = reader
        self.max_lag = max_lag

    def score(self, waveform: Tensor, frames: Tensor, *, sample_rate_hz: int, frame_rate_fps: float) -> ClipScore:
        """Score one clip: waveform (S,) in [-1, 1] and frames uint8 (F, 3, H, W)."""

        def lag() -> ClipScore:
            mouth, level, opening, there = self._measured(waveform, frames, sample_rate_hz, frame_rate_fps)
            correlations = lag_correlations(mouth, level, self.max_lag)
            values = dict(zip(self.names, peak_of(correlations), strict=True))
            shown = tuple(round(x, 4) for x in opening.tolist())
            curves = _curves(self.names, mouth, level, self.max_lag)
            curves["mouth_opening"] = Curve(0.5 / frame_rate_fps, 1 / frame_rate_fps, shown)
            notes = {"mouth_found": f"{there:.2f}"}
            if doubts := doubts_of(correlations, len(mouth) / STEP_HZ):
                notes[f"{self.names[0]}_doubt"] = ", ".join(doubts)
            return ClipScore(values, curves=curves, notes=notes)

        return scored(lag)

    def correlations(self, clip: Clip) -> Tensor:
        """Return the correlation of a clip at each lag, for `peak_of`; means of several clips are less noisy.

        Raises:
            Unscorable: The clip has none.
        """
        mouth, level, *_ = self._measured(mono(clip.waveform), clip.frames, clip.sample_rate_hz, clip.frame_rate_fps)
        return lag_correlations(mouth, level, self.max_lag)

    def _measured(
        self, waveform: Tensor, frames: Tensor, sample_rate_hz: int, fps: float
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        """Return mouth and level (T,), the opening (F,), and the share of frames in which it was found."""
        voice = check_waveform(waveform, sample_rate_hz).cpu()
        pixels = check_frames(frames, fps)
        duration_s = min(len(pixels) / fps, len(voice) / sample_rate_hz)
        if duration_s < MIN_DURATION_S:
            raise Unscorable("too_short")
        opening, there = filled(self.reader.opening(pixels))
        times = (torch.arange(int(duration_s * STEP_HZ)) + 0.5).double() / STEP_HZ
        mouth = syllables(sampled(opening, fps, times), min(SYLLABLES_HZ[1], fps / 2))
        level = syllables(level_db(voice, sample_rate_hz, times), SYLLABLES_HZ[1])
        return mouth, level, opening, there


def filled(opening: Tensor) -> tuple[Tensor, float]:
    """Interpolate where (F,) is NaN, and hold the ends; returns it as float64 with the share that was there.

    Raises:
        Unscorable: `no_face` where nothing is there, `face_lost` where more than a quarter is missing.
    """
    there = opening.isfinite()
    share = there.double().mean().item()
    if not there.any():
        raise Unscorable("no_face")
    if 1 - share > MAX_LOST_SHARE:
        raise Unscorable("face_lost")
    places = torch.arange(len(opening)).double()
    return interpolated(places[there], opening[there].double(), places), share


def sampled(opening: Tensor, frame_rate_fps: float, times: Tensor) -> Tensor:
    """Return the opening (F,) at times (T,) in seconds; a frame's value stands for the middle of its time on screen."""
    return interpolated((torch.arange(len(opening)).double() + 0.5) / frame_rate_fps, opening.double(), times)


def interpolated(places: Tensor, values: Tensor, wanted: Tensor) -> Tensor:
    """Interpolate values (K,) at increasing places (K,) linearly; the ends are held."""
    right = torch.searchsorted(places, wanted).clamp(1, max(1, len(places) - 1))
    if len(places) == 1:
        return values.expand(len(wanted)).clone()
    before, after = places[right - 1], places[right]
    share = ((wanted - before) / (after - before)).clamp(0, 1)
    return values[right - 1] + share * (values[right] - values[right - 1])


def level_db(voice: Tensor, sample_rate_hz: int, times: Tensor) -> Tensor:
    """Return the level of 250-3500 Hz in 40 ms around times (T,), in dB, at most 50 dB below the loudest."""
    spectrum = torch.fft.rfft(voice.double())
    hz = torch.fft.rfftfreq(len(voice), 1 / sample_rate_hz)
    spectrum[(hz < VOICE_HZ[0]) | (hz > VOICE_HZ[1])] = 0
    power = torch.fft.irfft(spectrum, len(voice)).square()
    total = F.pad(power.cumsum(0), (1, 0))
    ends = [((times + sign * ENERGY_WINDOW_S / 2) * sample_rate_hz).round().long() for sign in (-1, 1)]
    start, stop = (end.clamp(0, len(voice)) for end in ends)
    level = 10 * ((total[stop] - total[start]) / (stop - start).clamp(min=1)).clamp(min=1e-12).log10()
    return level.clamp(min=level.max().item() - FLOOR_DB)


def syllables(curve: Tensor, highest_hz: float) -> Tensor:
    """Keep 2 Hz to `highest_hz` of a curve (T,) at 100 Hz, by its spectrum with as many zeros behind."""
    spectrum = torch.fft.rfft(curve - curve.mean(), 2 * len(curve))
    hz = torch.fft.rfftfreq(2 * len(curve), 1 / STEP_HZ)
    spectrum[(hz < SYLLABLES_HZ[0]) | (hz > highest_hz)] = 0
    return torch.fft.irfft(spectrum, 2 * len(curve))[: len(curve)]


def _curves(names: Sequence[str], mouth: Tensor, level: Tensor, max_lag: int) -> dict[str, Curve]:
    lags, heights, doubtful = zip(*windowed_peaks(mouth, level, max_lag, CURVE_WINDOW, CURVE_HOP), strict=True)
    marked = tuple(place for place, is_doubtful in enumerate(doubtful) if is_doubtful)
    return {
        name: Curve(0.0, CURVE_HOP / STEP_HZ, tuple(None if x is None else round(x, 3) for x in values), marked)
        for name, values in zip(names, (lags, heights), strict=True)
    }
