"""Intervals and tests against independent computations, coverage, and null distributions."""

from collections.abc import Callable, Sequence
from dataclasses import astuple
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from idlora_pl.results.intervals import bootstrap_means, cluster_spread, cluster_sums
from idlora_pl.results.statistics import clustered_interval, paired_difference, sign_flip_p_value


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


def resampled(by_speaker: list[np.ndarray], rng: np.random.Generator, n: int) -> list[float]:
    draws = rng.integers(0, len(by_speaker), size=(n, len(by_speaker)))
    return [np.concatenate([by_speaker[i] for i in draw]).mean() for draw in draws]


def test_bootstrap_means_scatter_as_those_of_a_loop_over_speakers() -> None:
    rng = np.random.default_rng(3)
    by_speaker = [rng.normal(size=rng.integers(1, 6)) + i / 4 for i in range(12)]
    found = bootstrap_means(np.array([own.sum() for own in by_speaker]), np.array([float(len(x)) for x in by_speaker]))
    loop = resampled(by_speaker, rng, 5_000)
    # Two bootstraps of 5,000 resamples or more: their 1 % points differ by about 3 % of the spread.
    for share in (0.01, 0.5, 0.99):
        assert np.quantile(found, share) == pytest.approx(np.quantile(loop, share), abs=0.12 * np.std(loop))


def test_with_one_clip_a_speaker_the_interval_is_students() -> None:
    values = np.random.default_rng(0).normal(2, 3, 9)
    found = clustered_interval(values.tolist(), [str(i) for i in range(9)])
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high))


@given(st.lists(st.integers(1, 9), min_size=2, max_size=12), st.integers(0, 10**6))
def test_variance_and_degrees_of_freedom_are_those_of_bell_and_mccaffrey(sizes: list[int], seed: int) -> None:
    sums, counts = np.random.default_rng(seed).normal(size=len(sizes)), np.array(sizes, dtype=float)
    share = counts / counts.sum()
    away = np.eye(len(sizes)) - np.outer(share, np.ones(len(sizes)))  # residual sums, where a speaker's clips agree
    adjusted = np.diag(1 / np.sqrt(1 - share)) @ away
    covariance = adjusted @ np.diag(counts**2) @ adjusted.T
    found = cluster_spread(sums * counts, counts)
    centred = sums * counts - found.mean * counts
    assert found.variance == pytest.approx((centred**2 / (1 - share)).sum() / counts.sum() ** 2)
    assert found.df == pytest.approx(np.trace(covariance) ** 2 / np.trace(covariance @ covariance))
    assert found.n_least == pytest.approx(counts.sum() ** 2 / (counts**2).sum())


HARD = (3, 2, 8, 6, 5, 7, 2, 2)
"""Pairs by speaker of the hard split."""


def coverage(counts: Sequence[int], draw: Callable[..., np.ndarray], truth: float, *, trials: int = 1000) -> float:
    """The share of intervals that hold the true mean, for speakers and clips that scatter alike."""
    rng, hits = np.random.default_rng(0), 0
    speakers = [f"s{i:02d}" for i, n in enumerate(counts) for _ in range(n)]
    for _ in range(trials):
        values = np.repeat(draw(rng, len(counts)), counts) + draw(rng, len(speakers))
        found = clustered_interval(values.tolist(), speakers)
        hits += found.ci_low <= truth <= found.ci_high
    return hits / trials


@pytest.mark.parametrize("counts", [(4,) * 2, (4,) * 3, (4,) * 5, HARD, (4,) * 12, (1,) * 24], ids=len)
def test_the_interval_covers_the_truth_at_any_number_of_speakers(counts: tuple[int, ...]) -> None:
    # 1000 trials: three standard errors are 0.021. Plain percentiles of resampled speakers cover 0.50 at two speakers,
    # 0.75 at three, 0.84 at five, 0.87 on the hard split.
    assert coverage(counts, lambda rng, n: rng.normal(size=n), 0.0) >= 0.95 - 0.021


def test_log_normal_speakers_are_covered_less_and_the_docs_say_so() -> None:
    found = coverage((4,) * 24, lambda rng, n: rng.lognormal(size=n), 2 * np.exp(0.5))
    assert found == pytest.approx(0.897, abs=0.03)  # three standard errors of 1000 trials
    assert (
        "| log-normal | 0.931 | 0.898 | 0.892 | 0.885 |" in (Path(__file__).parents[2] / "docs/scoring.md").read_text()
    )


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


def test_a_share_has_the_exact_interval_and_never_one_without_width() -> None:
    for hits, n, expected in ((96, 96, (0.9623, 1)), (0, 35, (0, 0.1)), (95, 96, (0.9433, 0.9997))):
        found = clustered_interval([1.0] * hits + [0.0] * (n - hits), [str(i) for i in range(n)])
        assert (found.ci_low, found.ci_high) == pytest.approx(expected, abs=1e-3)
        exact = scipy_stats.binomtest(hits, n).proportion_ci(method="exact")
        assert (found.ci_low, found.ci_high) == pytest.approx((exact.low, exact.high), abs=1e-3)


def test_clips_of_one_speaker_that_agree_count_once() -> None:
    alike = clustered_interval([1.0] * 40, [f"s{i // 5}" for i in range(40)])
    assert alike.ci_low == pytest.approx(0.025 ** (1 / 8))
    even = clustered_interval([float(i % 5 > 0) for i in range(40)], [f"s{i // 5}" for i in range(40)])
    exact = scipy_stats.binomtest(32, 40).proportion_ci(method="exact")
    assert (even.ci_low, even.ci_high) == pytest.approx((exact.low, exact.high))


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=2, max_size=10),
    st.sampled_from([0.8, 0.95, 0.99]),
)
def test_the_interval_of_a_share_lies_around_it_inside_0_and_1(clips: list[list[bool]], level: float) -> None:
    values = [float(value) for own in clips for value in own]
    speakers = [str(i) for i, own in enumerate(clips) for _ in own]
    found = clustered_interval(values, speakers, level=level)
    assert 0 <= found.ci_low <= found.mean <= found.ci_high <= 1
    assert found.ci_high - found.ci_low > 0.01
    other = clustered_interval([1 - value for value in values], speakers, level=level)
    assert (other.ci_low, other.ci_high) == pytest.approx((1 - found.ci_high, 1 - found.ci_low))


@pytest.mark.parametrize(("n_speakers", "per_speaker"), [(96, 1), (8, 4), (24, 4)])
@pytest.mark.parametrize("rate", [0.99, 0.9, 0.5])
@pytest.mark.parametrize("alike", [0.01, 0.4])
def test_rates_are_covered_however_near_to_one(n_speakers: int, per_speaker: int, rate: float, alike: float) -> None:
    # 400 trials: three standard errors are 0.033. A bootstrap covers 0.60 for a rate of 0.99 at 96 clips.
    rng, hits = np.random.default_rng(1), 0
    speakers = [str(i // per_speaker) for i in range(n_speakers * per_speaker)]
    spread = (1 - alike) / alike
    for _ in range(400):
        own = rng.beta(rate * spread, (1 - rate) * spread, n_speakers)
        values = rng.random(len(speakers)) < np.repeat(own, per_speaker)
        found = clustered_interval(values.astype(float).tolist(), speakers)
        hits += found.ci_low <= rate <= found.ci_high
    assert hits / 400 >= 0.95 - 0.033


@pytest.mark.parametrize("counts", [(4,) * 6, HARD, (4,) * 12], ids=len)
def test_rates_over_seeds_are_covered(counts: tuple[int, ...]) -> None:
    # Student's t covers 0.83 to 0.86 here
    rng, hits, rate, alike = np.random.default_rng(1), 0, 0.9, 0.3
    speakers, spread = [str(i) for i, n in enumerate(counts) for _ in range(n)], (1 - alike) / alike
    for _ in range(400):
        own = np.repeat(rng.beta(rate * spread, (1 - rate) * spread, len(counts)), counts)
        values = (rng.random((3, sum(counts))) < own).mean(0)
        found = clustered_interval(values.tolist(), speakers, over_seeds=True)
        hits += found.ci_low <= rate <= found.ci_high
    assert hits / 400 >= 0.95 - 0.033


def test_paired_differences_of_shares_are_never_without_width() -> None:
    keys = [str(i) for i in range(96)]
    ones, speakers = dict.fromkeys(keys, 1.0), {key: key for key in keys}
    equal = paired_difference(ones, ones, speakers)
    assert (equal.diff, equal.p) == (0, 1)
    # exact for no event in 96 pairs is 0.031 to either side
    assert (equal.ci_low, equal.ci_high) == pytest.approx((-0.03, 0.03), abs=0.003)
    apart = paired_difference(ones, dict.fromkeys(keys, 0.0), speakers)
    assert (0.9 < apart.ci_low < apart.diff, apart.ci_high) == (True, 1)


def paired_shares(gaps: list[int], speakers: list[str]) -> tuple[float, float]:
    """The interval of the mean of differences of +1, 0 and -1 of 0/1 scores."""
    keys = [str(i) for i in range(len(gaps))]
    a, b = ({key: float(gap == sign) for key, gap in zip(keys, gaps, strict=True)} for sign in (1, -1))
    found = paired_difference(a, b, dict(zip(keys, speakers, strict=True)))
    return found.ci_low, found.ci_high


def test_the_difference_of_shares_by_hand() -> None:
    gaps = [1] * 10 + [-1] * 2 + [0] * 28
    alone = paired_shares(gaps, [str(i) for i in range(40)])
    plus, minus = 11 / 42, 3 / 42  # Bonett and Price: one more of either, two more in all
    reach = scipy_stats.t.ppf(0.975, 39) * ((plus + minus - (plus - minus) ** 2) / 42) ** 0.5
    assert alone == pytest.approx((plus - minus - reach, plus - minus + reach))
    # four equal clips of each speaker count as one
    alike = paired_shares([gap for gap in gaps for _ in range(4)], [str(i) for i in range(40) for _ in range(4)])
    assert alike == pytest.approx(alone, abs=0.003)
    # clips that differ as much inside of speakers as between them count all; here all speakers are alike
    inside = paired_shares([1, -1] * 40, [str(i // 2) for i in range(80)])
    reach = scipy_stats.t.ppf(0.975, 39) * (1 / 82 * 80 / 82 + 2 / 82 / 82) ** 0.5
    assert inside == pytest.approx((-reach, reach), rel=0.02)


def test_where_all_speakers_are_alike_no_interval_is_made_up() -> None:
    for value in (0.3, 0.1 + 0.2, 7.0):
        found = clustered_interval([value] * 8, [str(i) for i in range(8)])
        assert (found.mean, found.ci_low, found.ci_high) == (pytest.approx(value), None, None)
    rounding = [0.9 - 0.6, 0.8 - 0.5, 0.7 - 0.4]  # all 0.3, not bit by bit
    assert len(set(rounding)) > 1
    assert clustered_interval(rounding, ["a", "b", "c"]).ci_low is None


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
    assume(len({round(value, 3) for value in values}) > 3)
    plain = clustered_interval(values, speakers)
    moved = clustered_interval([shift + scale * value for value in values], speakers)
    assume(plain.ci_low is not None and moved.ci_low is not None)
    assert moved.ci_low == pytest.approx(shift + scale * plain.ci_low, abs=1e-9)
    assert plain.ci_low <= plain.mean + 1e-12
    assert plain.mean <= plain.ci_high + 1e-12


def test_the_order_of_clips_does_not_matter() -> None:
    values, speakers = clustered_sample(np.random.default_rng(2))
    first = clustered_interval(values, speakers)
    assert astuple(clustered_interval(values[::-1], speakers[::-1])) == pytest.approx(astuple(first))


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


@pytest.mark.parametrize("n_speakers", [4, 40])
def test_a_flip_that_gives_the_same_sum_counts(n_speakers: int) -> None:
    # every flip of zeros gives zero, so p is 1, whether all flips are tried or some
    assert sign_flip_p_value(np.zeros(n_speakers), n_flips=100) == 1
    # with one speaker apart, both of its signs are as far from zero
    assert sign_flip_p_value(np.array([3.0] + [0.0] * (n_speakers - 1)), n_flips=100) == 1


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_flips_that_are_equal_but_for_rounding_count(scale: float) -> None:
    # 0.7 + 0.1 - 0.1 is 1e-16 above 0.7 - 0.1 + 0.1; of the eight flips, six are at least as far from zero
    assert sign_flip_p_value(scale * np.array([0.7, 0.1, -0.1])) == 6 / 8
    assert sign_flip_p_value(scale * np.array([0.1, 0.2, 0.3])) == 2 / 8


def test_all_flips_are_tried_where_they_are_as_many_as_allowed() -> None:
    assert sign_flip_p_value(np.ones(6), n_flips=64) == 2 / 64
    assert sign_flip_p_value(np.ones(6), n_flips=63) != 2 / 64


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
    # 0.1 and 0.3: the standard error is 0.1, Student's quantile with one degree of freedom 12.7
    assert (found.ci_low, found.ci_high) == pytest.approx((0.2 - 1.2706, 0.2 + 1.2706), abs=1e-4)
    assert (found.n_speakers, found.n_dropped, found.p_margin) == (2, 2, None)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9), st.floats(-0.5, 0.5))
def test_the_p_value_of_a_margin_is_that_of_differences_moved_by_it(gaps: list[float], null: float) -> None:
    keys = [str(i) for i in range(len(gaps))]
    zero, speakers = dict.fromkeys(keys, 0.0), {key: "one" if key in "012" else key for key in keys}
    there = paired_difference(dict(zip(keys, gaps, strict=True)), zero, speakers, null=null)
    moved = paired_difference({key: gap - null for key, gap in zip(keys, gaps, strict=True)}, zero, speakers)
    assert there.p_margin == pytest.approx(moved.p, abs=0.01)


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
    for values in ([1.0, 2.0], [1.0, 1.0], [0.5]):
        with pytest.raises(ValueError, match="between 0 and 1; got 95"):
            clustered_interval(values, ["a", "b"][: len(values)], level=95)
    with pytest.raises(ValueError, match="between 0 and 1; got 95"):
        clustered_interval([1.0, 2.0], ["a", "b"], level=95)
