"""Statistics of human studies against published examples, scipy and simulation."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from idlora_pl.study.answers import OpinionRow
from idlora_pl.study.published import across_scenarios, published_opinions, read_published
from idlora_pl.study.statistics import (
    Opinion,
    krippendorff_alpha,
    opinion,
    sign_test,
    two_way_interval,
    two_way_p_value,
    two_way_spread,
)

# Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), example C: four observers, twelve units.
OBSERVERS = [
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
]
EXAMPLE = {
    (unit, rater): float(value)
    for rater, line in enumerate(OBSERVERS)
    for unit, value in enumerate(line.split())
    if value != "."
}


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("interval", 0.849)])
def test_alpha_equals_krippendorffs_own_example(level, published):
    assert krippendorff_alpha(EXAMPLE, level) == pytest.approx(published, abs=5e-4)


def test_alpha_is_one_where_all_agree_and_near_zero_where_answers_are_chance():
    rng = np.random.default_rng(0)
    agreed = {(item, rater): float(item % 3) for item in range(30) for rater in range(5)}
    chance = {(item, rater): float(rng.integers(3)) for item in range(400) for rater in range(5)}
    assert krippendorff_alpha(agreed, "nominal") == 1
    assert abs(krippendorff_alpha(chance, "nominal")) < 0.03


@pytest.mark.parametrize("answers", [{}, {("a", 1): 1.0}, {("a", 1): 1.0, ("a", 2): 1.0}])
def test_alpha_is_missing_where_nothing_can_be_said(answers):
    assert krippendorff_alpha(answers, "nominal") is None


@given(st.integers(0, 60), st.integers(0, 60))
def test_sign_test_is_symmetric_and_one_for_even_counts(wins, losses):
    p = sign_test(wins, losses)
    if wins + losses == 0:
        assert p is None
        return
    assert p == pytest.approx(sign_test(losses, wins))
    assert 0 < p <= 1
    if wins == losses:
        assert p == pytest.approx(1)


def test_sign_test_of_ten_to_nothing_is_two_in_two_to_the_tenth():
    assert sign_test(10, 0) == pytest.approx(2 / 2**10)


def grid(values) -> dict:
    return {(i, r): float(value) for (i, r), value in np.ndenumerate(np.asarray(values))}


def drawn(rng, n_items, n_raters, of_item=0.5, of_rater=0.5, alone=1.0):
    """Answers with crossed effects of item and rater."""
    items, raters = rng.normal(0, of_item, (n_items, 1)), rng.normal(0, of_rater, (1, n_raters))
    return items + raters + rng.normal(0, alone, (n_items, n_raters))


@given(st.integers(0, 10**6))
def test_the_spread_of_a_full_grid_is_that_of_the_analysis_of_variance(seed):
    answers = drawn(np.random.default_rng(seed), 7, 4)
    n_items, n_raters = answers.shape
    items, raters = answers.mean(1, keepdims=True), answers.mean(0, keepdims=True)
    rest = ((answers - items - raters + answers.mean()) ** 2).sum() / ((n_items - 1) * (n_raters - 1))
    expected = (n_raters * items.var(ddof=1) + n_items * raters.var(ddof=1) - rest) / answers.size
    least = max(items.var(ddof=1) / n_items, raters.var(ddof=1) / n_raters)
    found = two_way_spread(grid(answers))
    assert found.variance == pytest.approx(max(expected, least))
    assert found.mean == pytest.approx(answers.mean())
    assert found.n_least == pytest.approx(1 / (1 / n_items + 1 / n_raters))


def test_a_side_with_one_answer_each_leaves_the_other_side_alone():
    # every rater answers for one item: nothing is left over, and the spread is that of both sides
    found = two_way_spread({(i, i): float(i) for i in range(6)})
    assert found.variance == pytest.approx(2 * np.var(np.arange(6), ddof=1) / 6)


def test_an_interval_over_items_and_raters_is_wider_than_one_over_answers():
    answers = 3 + drawn(np.random.default_rng(1), 12, 6, 1, 1, 0.1)
    found = opinion(grid(answers))
    over_answers = 1.96 * answers.std(ddof=1) / answers.size**0.5
    assert (found.low, found.high) == two_way_interval(grid(answers))
    assert found.high - found.low > 4 * over_answers
    assert found.low < found.mean < found.high
    assert (found.n, found.n_items, found.n_raters) == (72, 12, 6)


def test_an_interval_needs_two_items_and_two_raters():
    for answers in ({("a", 1): 1.0, ("b", 1): 2.0}, {("a", 1): 1.0, ("a", 2): 2.0}):
        assert two_way_interval(answers) is None
        assert two_way_p_value(answers) is None
        assert two_way_p_value(answers, are_shares=True) is None


def test_answers_that_are_all_alike_show_no_spread_but_a_share_of_them_has_an_interval():
    assert two_way_interval(grid(np.full((5, 4), 3))) is None
    assert two_way_p_value(grid(np.full((5, 4), 3))) is None
    low, high = two_way_interval(grid(np.ones((35, 9))), are_shares=True)
    assert (0.55 < low < 0.65, high) == (True, 1.0)


@given(st.integers(0, 10**6), st.sampled_from([(4, 3), (8, 5), (20, 9)]), st.floats(-1.5, 1.5))
def test_p_is_below_a_twentieth_where_the_interval_leaves_the_value_out(seed, shape, shift):
    answers = drawn(np.random.default_rng(seed), *shape) + shift
    low, high = two_way_interval(grid(answers))
    assert (two_way_p_value(grid(answers)) < 0.05) == (not low <= 0 <= high)
    low, high = two_way_interval(grid(answers > 0), are_shares=True)
    assert (two_way_p_value(grid(answers > 0), are_shares=True) < 0.05) == (not low <= 0.5 <= high)


@pytest.mark.parametrize("shape", [(10, 2), (2, 9), (10, 3), (10, 5), (35, 9)])
def test_opinion_scores_are_covered_and_methods_that_do_not_differ_rarely_do(shape):
    # 400 trials: three standard errors are 0.033 at 0.95; docs/studies.md has 2000
    rng = np.random.default_rng(4)
    hits = [two_way_p_value(grid(drawn(rng, *shape))) >= 0.05 for _ in range(400)]
    assert np.mean(hits) >= 0.95 - 0.033


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_shares_of_an_ab_study_are_covered(share):
    rng, hits = np.random.default_rng(5), 0
    cut = norm.ppf(share) * 1.5**0.5
    for _ in range(300):
        low, high = two_way_interval(grid(drawn(rng, 20, 6) + cut > 0), are_shares=True)
        hits += low <= share <= high
    assert hits / 300 >= 0.95 - 0.038  # three standard errors of 300 trials


def test_raters_who_all_like_one_method_are_no_evidence_beyond_their_number():
    # two raters prefer everything of one method: over answers, p would be 2 / 2^40
    won = {(item, rater): 1.0 for item in range(20) for rater in range(2)}
    assert two_way_p_value(won, are_shares=True) > 0.3


def test_over_scenarios_the_published_gap_is_no_difference():
    rows = published_opinions(read_published(Path("experiments/tables/human_mos.yaml")))
    found = across_scenarios(rows)
    assert (found.n, found.n_ahead, found.n_behind, round(found.difference, 2)) == (10, 8, 2, 0.15)
    assert (found.p_t, found.p_sign) == (pytest.approx(0.54, abs=0.005), pytest.approx(0.11, abs=0.005))
    assert {row.p for row in rows} == {None}


def test_tests_over_scenarios_need_two_methods_and_a_difference_that_varies():
    def rows(*pairs):
        return [
            OpinionRow(str(i), {m: Opinion(x, None, None, 9) for m, x in enumerate(p)}) for i, p in enumerate(pairs)
        ]

    assert across_scenarios(rows((3.0,), (4.0,))) is None
    assert across_scenarios(rows((3.0, 2.0))).p_t is None
    assert across_scenarios(rows((3.0, 2.5), (4.0, 3.5))).p_t is None
    assert across_scenarios(rows((3.0, 3.0), (4.0, 4.0))).p_sign is None
