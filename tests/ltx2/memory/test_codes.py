"""Coded weights against references in float64: how far a weight may move, and what its numbers mean."""

import pytest
import torch
from scipy.stats import norm

from idlora_pl.ltx2.memory.codes import NF4_BLOCK, NF4_LEVELS, decode, encode, nf4_pairs


def weight_of(n_outputs=24, n_inputs=128, seed=0):
    """Rows of very different sizes, one of them zero."""
    weight = torch.randn(n_outputs, n_inputs, generator=torch.Generator().manual_seed(seed))
    weight *= torch.logspace(-6, 2, n_outputs)[:, None]
    weight[3] = 0
    return weight


def there_and_back(weight, level, dtype=torch.float32):
    coded = encode(weight, level)
    pairs = nf4_pairs() if level == "nf4" else None
    return decode(coded.codes, coded.scales, pairs, dtype), coded


def test_int8_moves_a_weight_by_half_a_step_at_most():
    weight = weight_of()
    read, coded = there_and_back(weight, "int8")
    step = weight.double().abs().amax(dim=1, keepdim=True) / 127
    # 1e-5: scale and product are float32
    assert ((read.double() - weight.double()).abs() <= 0.5 * step * (1 + 1e-5)).all()
    assert coded.codes.dtype == torch.int8
    assert coded.codes.abs().amax(dim=1).tolist() == [0 if row == 3 else 127 for row in range(24)]


def test_fp8_moves_a_weight_by_a_sixteenth_or_half_the_smallest_number():
    weight = weight_of()
    read, coded = there_and_back(weight, "fp8")
    scale = weight.double().abs().amax(dim=1, keepdim=True) / 448
    bound = torch.maximum(weight.double().abs() / 16, scale * 2**-10)
    assert ((read.double() - weight.double()).abs() <= bound * (1 + 1e-5)).all()
    assert coded.codes.dtype == torch.float8_e4m3fn


def test_the_levels_of_nf4_are_quantiles_of_the_normal_distribution():
    # QLoRA, appendix E: eight quantiles above zero, seven below, between 1 - 1/2 (1/30 + 1/32) and a half
    edge = 1 - (1 / 30 + 1 / 32) / 2
    above = norm.ppf(torch.linspace(edge, 0.5, 9, dtype=torch.float64)[:-1])
    below = -norm.ppf(torch.linspace(edge, 0.5, 8, dtype=torch.float64)[:-1])
    expected = sorted([*above / above.max(), 0.0, *below / above.max()])
    assert expected == pytest.approx(NF4_LEVELS, abs=2e-7)


@pytest.mark.parametrize("n_inputs", [16, 128])
def test_nf4_takes_the_nearest_of_sixteen_levels(n_inputs):
    weight = weight_of(n_inputs=n_inputs)
    read, coded = there_and_back(weight, "nf4")
    blocks = weight.double().view(-1, NF4_BLOCK)
    largest = blocks.abs().amax(dim=1, keepdim=True).bfloat16().double()
    choices = torch.tensor(NF4_LEVELS, dtype=torch.float64) * largest[..., None]
    errors = (blocks[..., None] - choices).abs().amin(dim=-1)
    # 1e-6: levels and products are float32
    assert ((read.double().view_as(blocks) - blocks).abs() <= errors + 1e-6 * largest).all()
    assert (coded.codes.shape, coded.codes.dtype) == ((24, n_inputs // 2), torch.uint8)
    assert (coded.scales.shape, coded.scales.dtype) == ((24 * n_inputs // 64,), torch.bfloat16)


@pytest.mark.parametrize("level", ["int8", "fp8", "nf4"])
def test_in_bfloat16_the_weight_is_that_of_float32_rounded(level):
    weight = weight_of().bfloat16()
    read, wide = there_and_back(weight, level, torch.bfloat16)[0], there_and_back(weight, level)[0]
    assert read.dtype == torch.bfloat16
    # nf4 rounds its sixteen levels to bfloat16, too
    rounding = 2**-7 if level == "nf4" else 2**-8
    assert ((read.float() - wide).abs() <= rounding * wide.abs()).all()


@pytest.mark.parametrize("level", ["int8", "fp8", "nf4"])
def test_what_is_no_number_is_refused(level):
    weight = weight_of()
    weight[2, 2] = torch.inf
    with pytest.raises(ValueError, match=rf"shape \(24, 128\) holds nan or infinity and cannot be kept as {level}"):
        encode(weight, level)


def test_nf4_refuses_a_weight_that_has_no_whole_blocks():
    with pytest.raises(ValueError, match="3 x 10 weights: choose int8 or fp8"):
        encode(torch.ones(3, 10), "nf4")
