"""Statistics of human studies against published examples, scipy and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.study.opinion import gap_p_value, opinion, two_way_interval
from idlora_pl.study.statistics import krippendorff_alpha, preference, sign_test

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


def test_preference_by_items_counts_an_item_once():
    many_raters = preference(90, 0, 0, by_item=[30, 30, 30])
    assert many_raters.p < 1e-20
    assert many_raters.p_items == pytest.approx(0.25)
    assert many_raters.shares == (1, 0, 0)


def test_an_interval_over_items_and_raters_is_wider_than_one_over_answers():
    rng = np.random.default_rng(1)
    of_item, of_rater = rng.normal(0, 1, 12), rng.normal(0, 1, 6)
    answers = {(i, r): 3 + of_item[i] + of_rater[r] + rng.normal(0, 0.1) for i in range(12) for r in range(6)}
    found = opinion(answers)
    low, high = two_way_interval(answers)
    assert (found.low, found.high) == (low, high)
    assert high - low > 2 * found.half_width
    assert low < found.mean < high


def test_an_interval_needs_two_items_and_two_raters():
    assert two_way_interval({("a", 1): 1.0, ("b", 1): 2.0}) == (None, None)
    assert two_way_interval({("a", 1): 1.0, ("a", 2): 2.0}) == (None, None)


def test_the_gap_of_equal_means_has_p_one_and_a_gap_of_its_interval_p_below_a_tenth():
    assert gap_p_value((3.0, 0.1), (3.0, 0.2)) == pytest.approx(1)
    # 1.96 standard errors of the difference
    assert gap_p_value((3.0 + 0.1 * 2**0.5, 0.1), (3.0, 0.1)) == pytest.approx(0.05, abs=1e-4)
