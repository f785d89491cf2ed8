"""The learning rate falls in a line to a tenth; 8-bit states are refused where they cannot be had."""

import pytest
import torch

from idlora_pl.training.optimizer import AdamW, build_optimizer


def test_the_rate_falls_linearly_to_a_tenth():
    built = build_optimizer(AdamW(learning_rate=2e-4), [torch.nn.Parameter(torch.ones(1))], steps=100)
    optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(101):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == 2e-4
    assert rates[50] == pytest.approx(1.1e-4)
    assert rates[100] == optimizer.param_groups[0]["lr"] == pytest.approx(2e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="8-bit states can be had here")
def test_eight_bit_states_need_cuda():
    with pytest.raises(ValueError, match="needs CUDA and bitsandbytes: pip install bitsandbytes, or set it to 32"):
        build_optimizer(AdamW(state_bits="8"), [torch.nn.Parameter(torch.ones(1))], steps=1)
