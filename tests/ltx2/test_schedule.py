"""The sampling schedule."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.ltx2.schedule import DISTILLED_SIGMAS, STAGE_2_SIGMAS, sigmas
from idlora_pl.method.flow import sigma_shift


@given(st.integers(2, 60), st.integers(1, 8192))  # above, float32 runs out of digits near 1, as the authors' does
def test_noise_levels_fall_from_one_over_a_tenth_to_zero(steps, n_tokens):
    levels = sigmas(steps, n_tokens)
    assert levels.shape == (steps + 1,)
    assert levels.dtype == torch.float32
    assert (levels.diff() < 0).all()
    assert levels[[0, -2, -1]].tolist() == pytest.approx([1.0, 0.1, 0.0], abs=1e-5)


@pytest.mark.parametrize("terminal", [0.1, None])
@pytest.mark.parametrize(("steps", "n_tokens"), [(2, 4096), (8, 1024), (30, 4096), (40, 2304), (15, 8192)])
def test_noise_levels_are_those_of_diffusers_scheduler_to_float32_rounding(steps, n_tokens, terminal):
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, time_shift_type="exponential", shift_terminal=terminal
    )
    scheduler.set_timesteps(sigmas=[1 - step / steps for step in range(steps)], mu=sigma_shift(n_tokens))
    assert (sigmas(steps, n_tokens, terminal=terminal) - scheduler.sigmas).abs().max() < 1e-6


def test_more_tokens_mean_more_noise_in_the_middle():
    assert (sigmas(8, 4096)[1:-2] > sigmas(8, 1024)[1:-2]).all()


def test_one_step_is_refused():
    with pytest.raises(ValueError, match="steps must be at least 2, because the last step starts at 0.1; got 1"):
        sigmas(1)


def test_levels_that_are_not_stretched_may_have_one_step_and_end_lower():
    assert sigmas(1, terminal=None).tolist() == pytest.approx([1.0, 0.0], abs=1e-7)
    assert not torch.equal(sigmas(8, terminal=None), sigmas(8))


def test_the_refining_levels_end_the_distilled_ones():
    assert DISTILLED_SIGMAS[-len(STAGE_2_SIGMAS) :] == STAGE_2_SIGMAS
    assert (torch.tensor(DISTILLED_SIGMAS).diff() < 0).all()
