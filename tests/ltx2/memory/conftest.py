"""A smoke model of any number of blocks with an adapter that does something, and a training of it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from idlora_pl.ltx2.lora import attach_lora
from idlora_pl.ltx2.presets import preset_named
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.tokens import AVSequence

SIGMA = torch.tensor([0.6])


@pytest.fixture
def make_model() -> Callable[..., LTX2]:
    """Build a base model of smoke's width, always with the same weights."""

    def make(n_blocks: int = 2, dtype: torch.dtype = torch.float32) -> LTX2:
        torch.manual_seed(3)
        smoke = preset_named("smoke")
        return LTX2(replace(smoke, config={**smoke.config, "num_layers": n_blocks}), dtype=dtype)

    return make


@pytest.fixture
def adapted() -> Callable[[LTX2], LTX2]:
    """Attach an adapter of rank 2, always the same, whose update is not zero."""

    def attach(model: LTX2) -> LTX2:
        torch.manual_seed(4)
        attach_lora(model, rank=2)
        for name, weight in model.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(weight, std=0.1)
        return model

    return attach


@pytest.fixture
def train(make_sequence: Callable[..., AVSequence]) -> Callable[..., list[float]]:
    """Train an adapter on one sequence and return the losses; every step differs by its noise level."""

    def run(model: LTX2, n_steps: int) -> list[float]:
        optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
        losses = []
        for step in range(n_steps):
            video, audio = model(make_sequence(), torch.tensor([0.1 + 0.8 * step / n_steps]))
            loss = video.square().mean() + audio.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    return run
