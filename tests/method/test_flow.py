"""Flow: the path, its velocity, the noise levels and the loss."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.method.flow import (
    sample_sigma,
    sigma_shift,
    stretched_sigma,
    velocity,
    velocity_loss,
    x0_from_velocity,
    x_sigma,
)

masks = st.lists(st.booleans(), min_size=1, max_size=12).map(lambda bits: torch.tensor([bits]))
levels = st.floats(0, 1, width=32)


def data_and_noise(clean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (*clean.shape, 4)
    return torch.randn(shape), torch.randn(shape)


@given(masks)
def test_the_path_starts_at_the_data_and_ends_at_the_noise(clean):
    x0, noise = data_and_noise(clean)
    assert torch.equal(x_sigma(x0, noise, torch.zeros(1), clean), x0)
    assert torch.equal(x_sigma(x0, noise, torch.ones(1), clean)[~clean], noise[~clean])


@given(masks, levels)
def test_clean_tokens_stay_data_bit_for_bit(clean, level):
    x0, noise = data_and_noise(clean)
    assert torch.equal(x_sigma(x0, noise, torch.tensor([level]), clean)[clean], x0[clean])


@given(levels)
def test_the_velocity_is_the_derivative_of_the_path(level):
    clean = torch.zeros(1, 3, dtype=torch.bool)
    x0, noise = data_and_noise(clean)
    _, slope = torch.func.jvp(lambda s: x_sigma(x0, noise, s, clean), (torch.tensor([level]),), (torch.ones(1),))
    torch.testing.assert_close(slope, velocity(x0, noise))


@given(masks, levels)
def test_the_velocity_leads_back_to_the_data(clean, level):
    x0, noise = data_and_noise(clean)
    sigma = torch.tensor([level])
    x = x_sigma(x0, noise, sigma, clean)
    back = x0_from_velocity(x, velocity(x0, noise), sigma[:, None] * ~clean)
    torch.testing.assert_close(back, x0, atol=2e-6, rtol=0)


@given(masks)
def test_the_loss_ignores_predictions_on_clean_tokens(clean):
    prediction, target = data_and_noise(clean)
    elsewhere = torch.where(clean[..., None], torch.full_like(prediction, 1e6), prediction)
    assert torch.equal(velocity_loss(prediction, target, clean), velocity_loss(elsewhere, target, clean))


@given(masks)
def test_the_loss_has_no_gradient_on_clean_tokens(clean):
    prediction, target = data_and_noise(clean)
    prediction.requires_grad_()
    velocity_loss(prediction, target, clean).backward()
    assert torch.equal(prediction.grad[clean], torch.zeros_like(prediction.grad[clean]))
    assert (prediction.grad[~clean] != 0).all()


@given(masks)
def test_the_loss_is_the_mean_over_noisy_tokens(clean):
    prediction, target = data_and_noise(clean)
    loss = velocity_loss(prediction, target, clean)
    expected = (prediction - target)[~clean].square().mean() if (~clean).any() else torch.tensor(0.0)
    torch.testing.assert_close(loss, expected)


def test_the_loss_of_low_precision_predictions_is_float32():
    half = torch.randn(1, 3, 4).bfloat16()
    assert velocity_loss(half, half + 1, torch.zeros(1, 3, dtype=torch.bool)).dtype == torch.float32


@pytest.mark.parametrize(("n_tokens", "shift"), [(256, 0.675), (1024, 0.95), (4096, 2.05), (8192, 3.516667)])
def test_more_video_tokens_get_more_noise(n_tokens, shift):
    assert sigma_shift(n_tokens) == pytest.approx(shift, abs=1e-6)


def test_noise_levels_are_a_shifted_logit_normal():
    sigma = sample_sigma(20000, 1024, torch.Generator().manual_seed(0))
    logit = torch.logit(sigma.double())
    assert sigma.min() > 0
    assert sigma.max() < 1
    # standard errors of 20,000 draws: 0.007 for the mean, 0.005 for the deviation
    assert logit.mean().item() == pytest.approx(0.95, abs=0.03)
    assert logit.std().item() == pytest.approx(1.0, abs=0.02)


def test_noise_levels_depend_on_the_generator_alone():
    draws = [sample_sigma(4, 100, generator=torch.Generator().manual_seed(7), std=0.5, shift=0.0) for _ in "ab"]
    assert torch.equal(*draws)
    normal = torch.randn(4, generator=torch.Generator().manual_seed(7))
    assert draws[0].tolist() == pytest.approx([1 / (1 + math.exp(-0.5 * n)) for n in normal.tolist()])


def test_stretched_noise_levels_reach_both_ends_and_one_in_ten_is_uniform():
    draws = torch.randn(20000), torch.rand(20000), torch.rand(20000)
    sigma = stretched_sigma(*draws, shift=2.05)
    assert ((sigma >= 0) & (sigma <= 1)).all()
    # 0.1 % of 18,000 lie beyond the 99.9 % quantile
    assert (sigma == 1).sum() >= 5
    uniform = draws[2] <= 0.1
    assert uniform.float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert sigma[uniform].mean().item() == pytest.approx(0.5, abs=0.03)
    assert (sigma < 0.1).float().mean() > 5 * (torch.sigmoid(draws[0] + 2.05) < 0.1).float().mean()


@given(st.floats(-1, 4))
def test_stretching_keeps_the_order_of_noise_levels(shift):
    normals = torch.linspace(-2.5, 3, 200)  # inside the quantiles that become 0 and 1
    sigma = stretched_sigma(normals, torch.zeros(200), torch.ones(200), shift)
    assert (sigma[1:][normals[1:] > -2.4].diff() > 0).all()


def test_the_plain_noise_levels_take_no_more_draws_than_before():
    first, second = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    sample_sigma(3, 100, first)
    torch.randn(3, generator=second)
    assert torch.equal(first.get_state(), second.get_state())
