"""The sampling schedule."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.ltx2.schedule import DISTILLED_SIGMAS, STAGE_2_SIGMAS, sigmas


@given(st.integers(2, 60), st.integers(1, 16384))
def test_noise_levels_fall_from_one_over_a_tenth_to_zero(steps, n_tokens):
    levels = sigmas(steps, n_tokens)
    assert levels.shape == (steps + 1,)
    assert levels.dtype == torch.float32
    assert (levels.diff() < 0).all()
    assert levels[[0, -2, -1]].tolist() == pytest.approx([1.0, 0.1, 0.0], abs=1e-6)


def test_more_tokens_mean_more_noise_in_the_middle():
    assert (sigmas(8, 4096)[1:-2] > sigmas(8, 1024)[1:-2]).all()


def test_one_step_is_refused():
    with pytest.raises(ValueError, match="steps must be at least 2, because the last step starts at 0.1; got 1"):
        sigmas(1)


def test_levels_that_are_not_stretched_may_have_one_step_and_end_lower():
    assert sigmas(1, terminal=None).tolist() == [1.0, 0.0]
    assert not torch.equal(sigmas(8, terminal=None), sigmas(8))


def test_the_refining_levels_end_the_distilled_ones():
    assert DISTILLED_SIGMAS[-len(STAGE_2_SIGMAS) :] == STAGE_2_SIGMAS
    assert (torch.tensor(DISTILLED_SIGMAS).diff() < 0).all()
