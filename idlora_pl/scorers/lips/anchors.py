"""What proves the lip-sync scorers: public clips with known values."""

from collections.abc import Callable
from pathlib import Path

import torch

from idlora_pl.files import files_below
from idlora_pl.media import Clip, read_clip
from idlora_pl.metrics.clip_mean import ClipMean, mono
from idlora_pl.metrics.lip_lag import LipLag, peak_of
from idlora_pl.metrics.lips import LipCoherence, LipDistances
from idlora_pl.scorers.card import Inputs

EXAMPLE = "syncnet/example.avi"
COHERENCE_CLIPS = ("s1/bbaf2n.mpg", "s3/sbia1a.mpg", "s4/lwbsza.mpg")
LAG_CLIPS = (
    *("s1/bbaf2n.mpg", "s1/lwbs1s.mpg", "s1/pgwe6n.mpg", "s1/swav1a.mpg"),
    *("s2/pwij3p.mpg", "s3/sbia1a.mpg", "s4/lwbsza.mpg", "s5/lbax4n.mpg"),
)
GRID = "the GRID corpus, https://zenodo.org/records/3625687, as INPUTS/grid/s1/bbaf2n.mpg and so on"
QUIET = 3e-4
"""Amplitude of the noise that stands for silence, about -70 dB: digital silence would not be scored at all."""


def syncnet_example(metric: ClipMean, inputs: Inputs) -> dict[str, float]:
    """Score SyncNet's own example, which is a crop of a face already."""
    assert isinstance(metric, LipDistances)
    clip = read_clip(inputs / EXAMPLE)
    crop = LipDistances(metric.embedder, None, max_offset=metric.max_offset, min_steps=metric.min_steps)
    score = crop.score(
        mono(clip.waveform), clip.frames, sample_rate_hz=clip.sample_rate_hz, frame_rate_fps=clip.frame_rate_fps
    )
    return score.values


def coherence_on_grid(clips: tuple[str, ...] = COHERENCE_CLIPS) -> Callable[[ClipMean, Inputs], dict[str, float]]:
    """Return what measures LR-ASD on clips of GRID.

    It gives the shares of clips whose own sound beats the same sound rolled by half, and silence, and the mean score of
    the clips with their own sound.
    """

    def measure(metric: ClipMean, inputs: Inputs) -> dict[str, float]:
        assert isinstance(metric, LipCoherence)
        rows = [_coherences(metric, read_clip(inputs / "grid" / name)) for name in clips]
        return {
            "above_rolled": sum(own > rolled for own, rolled, _ in rows) / len(rows),
            "above_silence": sum(own > silent for own, _, silent in rows) / len(rows),
            "mean": sum(own for own, _, _ in rows) / len(rows),
        }

    return measure


def _coherences(metric: LipCoherence, clip: Clip) -> tuple[float, float, float]:
    """Score frames with their own sound, with it rolled by half, and with noise at -70 dB."""
    own = mono(clip.waveform)
    noise = QUIET * torch.randn(own.shape, generator=torch.Generator().manual_seed(0))
    scores = [
        metric.score(sound, clip.frames, sample_rate_hz=clip.sample_rate_hz, frame_rate_fps=clip.frame_rate_fps)
        for sound in (own, own.roll(len(own) // 2), noise)
    ]
    first, second, third = (score.values.get(metric.names[0], float("nan")) for score in scores)
    return first, second, third


def lag_on_grid(clips: tuple[str, ...] = LAG_CLIPS) -> Callable[[ClipMean, Inputs], dict[str, float]]:
    """Return what measures the lag of clips of GRID: the peak of their mean correlation."""

    def measure(metric: ClipMean, inputs: Inputs) -> dict[str, float]:
        assert isinstance(metric, LipLag)
        each = [metric.correlations(read_clip(inputs / "grid" / name)) for name in clips]
        lag, correlation = peak_of(torch.stack(each).mean(0))
        return {"lag": lag, "correlation": correlation}

    return measure


def grid_clips(inputs: Path) -> tuple[str, ...]:
    """Return all clips of GRID that are there, except the copy in another size."""
    found = [path for path in files_below(inputs / "grid", (".mpg",)) if path.parent.parent == inputs / "grid"]
    return tuple(str(path.relative_to(inputs / "grid")) for path in found if "720x576" not in path.name)
