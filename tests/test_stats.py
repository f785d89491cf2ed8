"""Intervals and tests against independent computations, coverage, and null distributions."""

from collections.abc import Sequence
from dataclasses import astuple
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from idlora_pl.bootstrap import bootstrap_means, cluster_sums
from idlora_pl.stats import (
    clustered_interval,
    paired_difference,
    sign_flip_p_value,
)


def clustered_sample(
    rng: np.random.Generator, n_clusters: int = 20, per_cluster: int = 4
) -> tuple[list[float], list[str]]:
    """Draw values around zero that share a part within each cluster."""
    shared = rng.normal(size=(n_clusters, 1))
    values = shared + 0.5 * rng.normal(size=(n_clusters, per_cluster))
    return values.ravel().tolist(), [f"s{i}" for i in range(n_clusters) for _ in range(per_cluster)]


def test_cluster_sums_by_hand() -> None:
    sums, counts = cluster_sums([1.0, 2.0, 4.0], ["b", "a", "b"])
    assert sums.tolist() == [2.0, 5.0]
    assert counts.tolist() == [1.0, 2.0]


def test_bootstrap_equals_a_loop_over_speakers() -> None:
    rng = np.random.default_rng(3)
    by_speaker = [rng.normal(size=rng.integers(1, 6)) + i / 4 for i in range(12)]
    values = np.concatenate(by_speaker).tolist()
    speakers = [f"s{i:02d}" for i, own in enumerate(by_speaker) for _ in own]
    result = clustered_interval(values, speakers)
    draws = rng.integers(0, 12, size=(10_000, 12))
    loop = [np.concatenate([by_speaker[i] for i in draw]).mean() for draw in draws]
    tail = scipy_stats.norm.cdf(-np.sqrt(12 / 11) * scipy_stats.t.ppf(0.975, 11))
    # Two independent bootstraps of 10,000 resamples: their 1 % points differ by about 3 % of the spread.
    assert result.ci_low == pytest.approx(np.quantile(loop, tail), abs=0.06 * np.std(loop) * 2)
    assert result.ci_high == pytest.approx(np.quantile(loop, 1 - tail), abs=0.06 * np.std(loop) * 2)
    assert result.mean == pytest.approx(np.mean(values))


HARD = (3, 2, 8, 6, 5, 7, 2, 2)
"""Pairs by speaker of the hard split."""


def coverage(counts: Sequence[int], *, trials: int = 1000) -> float:
    """The share of intervals that hold the true mean, for speakers and clips that scatter alike (normal)."""
    rng, hits = np.random.default_rng(0), 0
    speakers = [f"s{i:02d}" for i, n in enumerate(counts) for _ in range(n)]
    for _ in range(trials):
        values = np.repeat(rng.normal(size=len(counts)), counts) + rng.normal(size=len(speakers))
        found = clustered_interval(values.tolist(), speakers, n_resamples=1000)
        hits += found.ci_low <= 0 <= found.ci_high
    return hits / trials


@pytest.mark.parametrize(
    ("counts", "measured"),
    [((4,) * 3, 0.74), ((4,) * 5, 0.92), (HARD, 0.92), ((4,) * 12, 0.95), ((5,) * 20, 0.95)],
    ids=["3 speakers", "5 speakers", "hard split", "12 speakers", "20 speakers"],
)
def test_the_interval_covers_the_truth_as_often_as_the_docs_say(counts: tuple[int, ...], measured: float) -> None:
    # 1000 trials: three standard errors are 0.02 at 0.95 and 0.04 at 0.74. Plain percentiles cover 0.84 with five
    # speakers, 0.87 on the hard split and 0.91 with twelve.
    found = coverage(counts)
    assert found == pytest.approx(measured, abs=3 * (measured * (1 - measured) / 1000) ** 0.5 + 0.005)
    assert f"{measured:.2f}" in (Path(__file__).parents[1] / "docs/scoring.md").read_text()


def test_a_paired_interval_is_as_wide_as_that_of_the_differences() -> None:
    values, speakers = clustered_sample(np.random.default_rng(8), n_clusters=8)
    keys = [f"k{i:02d}" for i in range(len(values))]
    found = paired_difference(
        dict(zip(keys, values, strict=True)), dict.fromkeys(keys, 0.0), dict(zip(keys, speakers, strict=True))
    )
    alone = clustered_interval(values, speakers)
    assert (found.ci_low, found.ci_high) == pytest.approx((alone.ci_low, alone.ci_high))


def test_ignoring_the_speakers_would_be_too_sure() -> None:
    values, speakers = clustered_sample(np.random.default_rng(1), per_cluster=10)
    clustered = clustered_interval(values, speakers)
    single = clustered_interval(values, [str(i) for i in range(len(values))])
    assert clustered.ci_high - clustered.ci_low > 2 * (single.ci_high - single.ci_low)


def test_missing_scores_are_counted_and_left_out() -> None:
    found = clustered_interval([1.0, None, 3.0, None], ["a", "a", "b", "c"])
    assert (found.mean, found.n_scored, found.n_total) == (2.0, 2, 4)
    empty = clustered_interval([None], ["a"])
    assert (empty.mean, empty.ci_low, empty.n_scored, empty.n_total) == (None, None, 0, 1)


def test_one_speaker_has_no_interval() -> None:
    found = clustered_interval([1.0, 2.0], ["a", "a"])
    assert (found.mean, found.ci_low, found.ci_high) == (1.5, None, None)


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.floats(-5, 5), min_size=4, max_size=20),
    shift=st.floats(-3, 3),
    scale=st.floats(0.1, 4),
)
def test_the_interval_moves_with_the_values(values: list[float], shift: float, scale: float) -> None:
    speakers = [f"s{i % 4}" for i in range(len(values))]
    plain = clustered_interval(values, speakers, n_resamples=200)
    moved = clustered_interval([shift + scale * value for value in values], speakers, n_resamples=200)
    assert moved.ci_low == pytest.approx(shift + scale * plain.ci_low, abs=1e-9)
    assert plain.ci_low <= plain.mean + 1e-12
    assert plain.mean <= plain.ci_high + 1e-12


def test_the_seed_decides_and_order_does_not() -> None:
    values, speakers = clustered_sample(np.random.default_rng(2))
    first = clustered_interval(values, speakers, seed=1)
    assert astuple(clustered_interval(values[::-1], speakers[::-1], seed=1)) == pytest.approx(astuple(first))
    assert clustered_interval(values, speakers, seed=2) != first


def test_resamples_are_chunked_without_a_seam() -> None:
    sums, counts = np.arange(5.0), np.ones(5)
    assert len(bootstrap_means(sums, counts, n_resamples=2500)) == 2500
    np.testing.assert_array_equal(
        bootstrap_means(sums, counts, n_resamples=1000),
        bootstrap_means(sums, counts, n_resamples=1500)[:1000],
    )


def test_sign_flips_equal_a_loop_over_all_of_them() -> None:
    sums = np.array([0.5, -0.2, 0.9, 0.1, 0.4])
    loop = [
        abs(sum(sign * value for sign, value in zip(signs, sums, strict=True))) for signs in product((1, -1), repeat=5)
    ]
    expected = np.mean(np.array(loop) >= abs(sums.sum()) - 1e-9)
    assert sign_flip_p_value(sums) == pytest.approx(expected)


def test_random_flips_come_close_to_all_flips() -> None:
    sums = np.random.default_rng(5).normal(0.3, 1, size=12)
    # 4096 flips exactly against 4000 random ones: the error of a p near 0.3 is 0.007.
    assert sign_flip_p_value(sums, n_flips=4000) == pytest.approx(sign_flip_p_value(sums), abs=0.03)


@pytest.mark.parametrize("n_speakers", [8, 40])
def test_under_the_null_p_is_uniform(n_speakers: int) -> None:
    rng = np.random.default_rng(7)
    p = [sign_flip_p_value(rng.normal(size=n_speakers), n_flips=400, seed=i) for i in range(400)]
    for level in (0.05, 0.25, 0.5, 0.75):
        # 400 trials: three standard errors are 0.03 at 0.05 and 0.075 at 0.5.
        assert np.mean(np.array(p) <= level) == pytest.approx(level, abs=3 * (level * (1 - level) / 400) ** 0.5 + 0.01)


def test_a_large_effect_has_the_smallest_p() -> None:
    assert sign_flip_p_value(np.full(40, 1.0), n_flips=999) == pytest.approx(1 / 1000)
    assert sign_flip_p_value(np.full(4, 1.0)) == 2 / 16


def test_paired_difference_by_hand() -> None:
    a, b = {"k1": 0.5, "k2": 0.7, "k3": None, "k4": 0.1}, {"k1": 0.4, "k2": 0.4, "k3": 0.9, "k4": None}
    found = paired_difference(a, b, {"k1": "s1", "k2": "s2", "k3": "s1", "k4": "s2"})
    assert (found.diff, found.n, found.p) == (pytest.approx(0.2), 2, 0.5)
    assert (found.ci_low, found.ci_high) == (pytest.approx(0.1), pytest.approx(0.3))


def test_pairing_finds_what_two_intervals_cannot() -> None:
    values, speakers = clustered_sample(np.random.default_rng(4), n_clusters=40)
    keys = [f"k{i}" for i in range(len(values))]
    noise = np.random.default_rng(9).normal(0.1, 0.1, size=len(values))
    a = {key: value + extra for key, value, extra in zip(keys, values, noise, strict=True)}
    b = dict(zip(keys, values, strict=True))
    found = paired_difference(a, b, dict(zip(keys, speakers, strict=True)))
    first, second = (clustered_interval(list(row.values()), speakers) for row in (a, b))
    assert first.ci_low < second.ci_high
    assert found.ci_low > 0
    assert found.p < 0.01


def test_swapping_the_rows_flips_the_sign() -> None:
    rng = np.random.default_rng(6)
    a, b = ({f"k{i}": float(x) for i, x in enumerate(rng.normal(size=20))} for _ in range(2))
    speakers = {f"k{i}": f"s{i // 2}" for i in range(20)}
    there, back = paired_difference(a, b, speakers), paired_difference(b, a, speakers)
    assert (back.diff, back.ci_low, back.p) == (
        pytest.approx(-there.diff),
        pytest.approx(-there.ci_high),
        there.p,
    )


def test_rows_on_different_clips_are_refused_with_both_counts() -> None:
    with pytest.raises(ValueError, match="different clips: 2 and 3, 1 of them shared"):
        paired_difference({"a": 1.0, "b": 1.0}, {"b": 1.0, "c": 1.0, "d": 1.0}, {})


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="values must be finite; write a missing score as None"):
        clustered_interval([float("nan"), 1.0], ["a", "b"])
    with pytest.raises(ValueError, match="of one length; got 1 and 2"):
        clustered_interval([1.0], ["a", "b"])
    with pytest.raises(ValueError, match="between 0 and 1; got 95"):
        clustered_interval([1.0, 2.0], ["a", "b"], level=95)
