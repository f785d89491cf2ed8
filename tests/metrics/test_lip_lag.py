"""The lag of mouth and sound on curves whose lag is known, and clips that have none."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.chance import CHANCE, chance_correlation, chance_note
from idlora_pl.metrics.clip_mean import Expected
from idlora_pl.metrics.lip_lag import (
    LipLag,
    doubts_of,
    filled,
    interpolated,
    lag_correlations,
    level_db,
    peak_of,
    sampled,
    syllables,
    windowed_peaks,
)
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.results.row import AT_EDGE, BY_CHANCE

DOCS = (Path(__file__).parents[2] / "docs/scoring.md").read_text()


def openings(times: np.ndarray) -> np.ndarray:
    """How far the mouth is open at each moment: syllables at uneven times."""
    starts = np.cumsum(0.14 + 0.17 * np.random.default_rng(3).random(60))
    near = starts[(starts > times[0] - 0.5) & (starts < times[-1] + 0.5)]  # beyond, e^-100 is left
    return sum(np.exp(-(((times - start) / 0.05) ** 2)) for start in near)


class PaintedMouth:
    """Reads the opening from the brightness of the frame."""

    def opening(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.double().mean((1, 2, 3)) / 255


@cache
def talking(*, ahead_s: float = 0.0, rate: float = 25.0, sample_rate_hz: int = 16_000, duration_s: float = 4.0) -> Clip:
    """A clip whose brightness follows the loudness of noise, with the sound early by `ahead_s`."""
    frames = (openings((np.arange(round(duration_s * rate)) + 0.5) / rate) / 1.6).clip(0, 1)
    pixels = torch.from_numpy((255 * frames).round()).to(torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8)
    times = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
    voice = 0.2 * openings(times + ahead_s) * np.sin(2 * np.pi * 900 * times)
    sound = torch.from_numpy(voice + 1e-3 * np.random.default_rng(1).normal(size=len(times))).float()
    return Clip(pixels.contiguous(), sound[None], rate, sample_rate_hz)


def lag(clip: Clip) -> float:
    return LipLag(PaintedMouth()).score_clip(clip, Expected()).values["lip_lag_landmarks"]


@pytest.mark.parametrize("shift", [-7, -3, 0, 2, 5])
def test_sound_that_is_early_by_k_frames_has_lag_k(shift: int) -> None:
    assert lag(talking(ahead_s=0.04 * shift)) - lag(talking()) == pytest.approx(shift, abs=0.05)


@pytest.mark.parametrize("shift", [-7, -3, -0.5, 0, 0.25, 2, 5])
def test_a_known_lag_is_found_as_it_is_and_not_by_difference(shift: float) -> None:
    # half a frame would be 0.5: frames stand for the middle of their time, sound for the middle of its window
    assert lag(talking(ahead_s=0.04 * shift)) == pytest.approx(shift, abs=0.1)


@pytest.mark.parametrize("part", [0.25, 0.5])
def test_a_part_of_a_frame_is_seen(part: float) -> None:
    assert lag(talking(ahead_s=0.04 * part)) - lag(talking()) == pytest.approx(part, abs=0.1)


@pytest.mark.parametrize("rate", [16.0, 24.0, 25.0, 30.0, 60.0])
def test_the_lag_is_in_frames_of_25_fps_at_any_rate(rate: float) -> None:
    assert lag(talking(rate=rate, ahead_s=0.12)) == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("sample_rate_hz", [8_000, 22_050, 44_100, 48_000])
def test_the_lag_does_not_depend_on_the_rate_of_the_sound(sample_rate_hz: int) -> None:
    assert lag(talking(sample_rate_hz=sample_rate_hz)) == pytest.approx(lag(talking()), abs=0.1)


def test_a_mouth_that_follows_the_sound_correlates_and_another_does_not() -> None:
    clip = talking()
    scores = LipLag(PaintedMouth()).score_clip(clip, Expected())
    assert scores.values["lip_corr_landmarks"] > 0.9
    apart = LipLag(PaintedMouth()).score_clip(replace(clip, waveform=clip.waveform.flip(1)), Expected())
    assert apart.values["lip_corr_landmarks"] < 0.5
    assert len(scores.curves["mouth_opening"].values) == 100
    assert scores.notes == {"mouth_found": "1.00"}


def test_the_lag_over_time_shows_where_the_sound_slips() -> None:
    early, late = talking(ahead_s=0.2, duration_s=10), talking(ahead_s=-0.12, duration_s=10)
    spliced = torch.cat([early.waveform[:, : 5 * 16_000], late.waveform[:, 5 * 16_000 :]], dim=1)
    curves = LipLag(PaintedMouth()).score_clip(replace(early, waveform=spliced), Expected()).curves
    lags, heights = curves["lip_lag_landmarks"], curves["lip_corr_landmarks"]
    assert (lags.start_s, lags.step_s, len(lags.values)) == (heights.start_s, heights.step_s, 41) == (0.0, 0.2, 41)
    inside = [(i * 0.2, lag, height) for i, (lag, height) in enumerate(zip(lags.values, heights.values, strict=True))]
    whole = lag(talking(duration_s=10))
    for at, expected in ((range(0, 15), 5), (range(26, 41), -3)):
        assert [inside[i][1] - whole for i in at] == pytest.approx([expected] * 15, abs=0.3)
        assert min(inside[i][2] for i in at) > 0.8


def test_a_window_in_which_nothing_moves_has_no_lag() -> None:
    clip = talking(duration_s=10)
    frames = clip.frames.clone()
    frames[:125] = 0
    curve = LipLag(PaintedMouth()).score_clip(replace(clip, frames=frames), Expected()).curves["lip_lag_landmarks"]
    # all that is left there is what the filter smears
    assert curve.values[0] is None or 0 in curve.marked
    assert None not in curve.values[25:]
    assert not {25, 26, 27} & set(curve.marked)


def test_a_clip_shorter_than_a_window_is_one_window() -> None:
    score = LipLag(PaintedMouth()).score_clip(talking(duration_s=1.4), Expected())
    assert score.curves["lip_lag_landmarks"].values == pytest.approx((score.values["lip_lag_landmarks"],), abs=1e-3)


def test_a_highest_point_at_the_edge_is_marked_in_windows_and_clips_alike() -> None:
    steps = torch.arange(200).double()
    mouth, level = (torch.exp(-(((steps - place) / 30) ** 2)) for place in (140, 80))
    ((found, _, is_doubtful),) = windowed_peaks(mouth, level, 10, 200, 20)
    assert (found, is_doubtful) == (10.0, True)
    assert doubts_of(lag_correlations(mouth, level, 10), 2.0) == [AT_EDGE]
    ((found, _, is_doubtful),) = windowed_peaks(mouth, level, 20, 200, 20)
    assert (found, is_doubtful) == (pytest.approx(15, abs=0.2), False)
    assert doubts_of(lag_correlations(mouth, level, 20), 2.0) == []


@pytest.mark.parametrize(("shift", "marked"), [(2, False), (-2, False), (3.4, True), (-3.4, True)])
def test_a_clip_whose_lag_is_beyond_the_search_says_so(shift: float, marked: bool) -> None:
    clip = talking(ahead_s=0.04 * shift)
    score = LipLag(PaintedMouth(), max_lag=3).score_clip(clip, Expected())
    assert ("lip_lag_landmarks_doubt" in score.notes) == marked
    assert score.values["lip_lag_landmarks"] == pytest.approx(max(-3, min(3, shift)), abs=0.1)
    assert (len(score.curves["lip_lag_landmarks"].marked) > 5) == marked
    assert score.curves["lip_lag_landmarks"].marked == score.curves["lip_corr_landmarks"].marked


def test_a_lag_no_higher_than_chance_keeps_its_value_and_says_so() -> None:
    marked = 0
    for seed in range(8):
        noise = 0.1 * torch.randn(1, 64_000, generator=torch.Generator().manual_seed(seed))
        score = LipLag(PaintedMouth()).score_clip(replace(talking(), waveform=noise), Expected())
        is_chance = score.values["lip_corr_landmarks"] < chance_correlation(4.0)[0]
        said = score.notes.get("lip_lag_landmarks_doubt", "")
        assert said.endswith(f"{BY_CHANCE} (0.29 in 4.0 s)") == is_chance
        assert isinstance(score.values["lip_lag_landmarks"], float)
        marked += is_chance
    assert 0 < marked < 8


@pytest.mark.parametrize(
    ("duration_s", "mean", "rare"), [CHANCE[0], *(pytest.param(*one, marks=pytest.mark.slow) for one in CHANCE[1:5])]
)
def test_unrelated_curves_reach_what_the_table_says(duration_s: float, mean: float, rare: float) -> None:
    # 120 pairs: three standard errors of the mean are 0.03, of the 95 % point about 0.08
    generator, found = torch.Generator().manual_seed(3), []
    for _ in range(120):
        mouth, level = (
            syllables(torch.randn(round(100 * duration_s), generator=generator).double(), 8.0) for _ in range(2)
        )
        found.append(lag_correlations(mouth, level, 10).max().item())
    assert np.mean(found) == pytest.approx(mean, abs=0.035)
    assert np.quantile(found, 0.95) == pytest.approx(rare, abs=0.09)
    assert f"{mean:.2f}" in DOCS
    assert chance_correlation(duration_s) == (mean, rare)


def test_what_chance_reaches_falls_with_the_length_and_is_held_at_the_ends() -> None:
    found = [chance_correlation(seconds / 10)[0] for seconds in range(2, 400)]
    assert found == sorted(found, reverse=True)
    assert (found[0], found[-1]) == (CHANCE[0][1], CHANCE[-1][1])
    assert "0.60 in 1 s, 0.54 in 1.3 s, 0.34 in 3 s, 0.26 in 5 s" in chance_note()


def test_the_mean_of_the_metric_is_that_of_distances_from_zero() -> None:
    metric = LipLag(PaintedMouth())
    metric.update([talking(ahead_s=0.04 * shift) for shift in (-3, 3, -2, 2)], [Expected()] * 4)
    assert metric.compute()["lip_lag_landmarks"].item() == pytest.approx(2.5, abs=0.1)


def test_stereo_is_averaged() -> None:
    clip = talking()
    both = LipLag(PaintedMouth()).score_clip(replace(clip, waveform=clip.waveform.expand(2, -1)), Expected())
    assert both.values == LipLag(PaintedMouth()).score_clip(clip, Expected()).values


def test_the_peak_of_a_parabola_is_found_between_its_points() -> None:
    places = torch.arange(-8, 9).double()
    lag, correlation = peak_of(0.8 - 0.001 * (places - 2.6) ** 2)
    assert lag == pytest.approx(2.6 / 4)
    assert correlation == pytest.approx(0.8, abs=1e-3)


def test_a_peak_at_the_edge_stays_there() -> None:
    assert peak_of(torch.arange(9).double() / 10) == (1.0, 0.8)


def test_correlations_equal_those_of_numpy() -> None:
    mouth, level = (torch.randn(80, generator=torch.Generator().manual_seed(seed)).double() for seed in (1, 2))
    found = lag_correlations(mouth, level, 3)
    assert found[12] == pytest.approx(np.corrcoef(mouth, level)[0, 1])
    # entry 12 + k: the level k steps earlier belongs to the mouth
    assert found[17] == pytest.approx(np.corrcoef(mouth[5:], level[:-5])[0, 1])
    assert found[8] == pytest.approx(np.corrcoef(mouth[:-4], level[4:])[0, 1])


@given(st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=1, max_size=30))
def test_gaps_are_filled_as_numpy_does_or_have_a_reason(values: list[float | None]) -> None:
    opening = torch.tensor([float("nan") if value is None else value for value in values], dtype=torch.float64)
    places = [i for i, value in enumerate(values) if value is not None]
    if 4 * len(places) < 3 * len(values):
        with pytest.raises(Unscorable, match="face_lost" if places else "no_face"):
            filled(opening)
        return
    found, share = filled(opening)
    expected = np.interp(np.arange(len(values)), places, [values[i] for i in places])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    assert share == pytest.approx(len(places) / len(values))


@pytest.mark.parametrize("rate", [12.5, 25.0, 50.0])
def test_the_curve_of_the_opening_stands_at_the_middle_of_each_frame(rate: float) -> None:
    clip = talking(rate=rate)
    curve = LipLag(PaintedMouth()).score_clip(clip, Expected()).curves["mouth_opening"]
    assert (curve.start_s, curve.step_s) == (0.5 / rate, 1 / rate)
    assert len(curve.values) == len(clip.frames)


def test_what_frames_cannot_show_is_not_kept_of_the_mouth() -> None:
    # A mouth of 3 Hz at 10 fps: straight lines between the frames have an image of it at 7 Hz, 0.18 as large, which a
    # sound of 7 Hz would correlate with. The filter ends at half the frame rate.
    rate, seconds = 10.0, 12
    shown = 0.5 + 0.4 * torch.sin(2 * torch.pi * 3 * (torch.arange(rate * seconds) + 0.5) / rate)
    frames = (255 * shown).round().to(torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8)
    times = torch.arange(16_000 * seconds) / 16_000
    voice = 10 ** (-1 + 0.5 * torch.sin(2 * torch.pi * 7 * times)) * torch.sin(2 * torch.pi * 900 * times)
    found = LipLag(PaintedMouth()).correlations(Clip(frames.contiguous(), voice[None], rate, 16_000))
    assert found.abs().max() < 0.06


def test_an_opening_between_frames_is_interpolated_between_their_middles() -> None:
    opening, rate = torch.tensor([0.0, 1.0, 0.0, 0.0]), 10.0
    times = torch.tensor([0.0, 0.05, 0.10, 0.15, 0.20, 0.40]).double()
    assert sampled(opening, rate, times).tolist() == pytest.approx([0, 0, 0.5, 1, 0.5, 0], abs=1e-6)


def test_one_known_place_is_held_everywhere() -> None:
    found = interpolated(torch.tensor([3.0]), torch.tensor([7.0]), torch.tensor([0.0, 3.0, 9.0]))
    assert found.tolist() == [7.0, 7.0, 7.0]


@pytest.mark.parametrize(("hz", "kept"), [(1.0, 0.0), (3.0, 1.0), (7.0, 1.0), (10.0, 0.0)])
def test_only_the_rate_of_syllables_is_kept(hz: float, kept: float) -> None:
    wave = torch.sin(2 * torch.pi * hz * torch.arange(800) / 100).double()
    middle = slice(200, 600)
    assert syllables(wave, 8.0)[middle].std().item() == pytest.approx(kept * wave[middle].std().item(), abs=0.07)


@pytest.mark.parametrize(("hz", "heard"), [(1000.0, True), (100.0, False), (5000.0, False)])
def test_the_level_is_that_of_the_voice_band(hz: float, heard: bool) -> None:
    times = torch.tensor([0.25, 0.75], dtype=torch.float64)
    time = torch.arange(16_000) / 16_000
    tone, voice = torch.sin(2 * torch.pi * hz * time), torch.sin(2 * torch.pi * 1000 * time)
    level = level_db(torch.where(time < 0.5, tone, voice), 16_000, times)
    assert level[1].item() == pytest.approx(-3.01, abs=0.2)
    assert (level[0] > level[1] - 1) == heard


def test_a_pause_is_50_db_below_the_loudest() -> None:
    times = (torch.arange(300) + 0.5).double() / 100
    sound = torch.zeros(48_000)
    sound[:24_000] = torch.sin(0.4 * torch.arange(24_000))
    level = level_db(sound, 16_000, times)
    assert level.max() - level.min() == pytest.approx(50)
    assert level[30] == pytest.approx(10 * np.log10(0.5), abs=0.1)


def broken() -> dict[str, tuple[Clip, str]]:
    """Clips that have no lag, with the reason."""
    clip = talking()
    nan = clip.waveform.clone()
    nan[0, 9] = float("inf")
    steady = 0.1 * torch.sin(0.4 * torch.arange(64_000))[None]
    return {
        "silence": (replace(clip, waveform=torch.zeros_like(clip.waveform)), "silent"),
        "infinity": (replace(clip, waveform=nan), "not_finite"),
        "no samples": (replace(clip, waveform=clip.waveform[:, :0]), "no_audio"),
        "no frames": (replace(clip, frames=clip.frames[:0]), "no_frames"),
        "one frame": (replace(clip, frames=clip.frames[:1]), "too_short"),
        "a mouth that does not move": (replace(clip, frames=torch.zeros_like(clip.frames)), "mouth_still"),
        "a tone": (replace(clip, waveform=steady), "sound_steady"),
    }


@pytest.mark.parametrize("kind", broken())
def test_a_clip_without_a_lag_has_a_reason(kind: str) -> None:
    clip, reason = broken()[kind]
    score = LipLag(PaintedMouth()).score_clip(clip, Expected())
    assert score.values == {}
    assert {score.reason_of(name) for name in ("lip_lag_landmarks", "lip_corr_landmarks")} == {reason}


def test_a_lag_needs_room() -> None:
    with pytest.raises(ValueError, match="max_lag must be >= 1; got 0"):
        LipLag(PaintedMouth(), max_lag=0)
