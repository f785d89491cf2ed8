"""Random tiny networks of the real classes, built once."""

import pytest
import torch
from torch import Tensor

from idlora_pl.ltx2.codecs import Codecs
from idlora_pl.ltx2.text import TextEncoder


@pytest.fixture(scope="session")
def smoke_codecs() -> Codecs:
    """Codecs of the smoke preset; tests that change their state must change it back."""
    return Codecs.from_preset("smoke")


@pytest.fixture(scope="session")
def smoke_text() -> TextEncoder:
    """The text encoder of the smoke preset."""
    return TextEncoder.from_preset("smoke")


@pytest.fixture(scope="session")
def noise_frames() -> Tensor:
    """White-noise frames, uint8 (1, 9, 3, 64, 96)."""
    return torch.randint(
        0, 256, (1, 9, 3, 64, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


@pytest.fixture(scope="session")
def noise_sound() -> Tensor:
    """One second of white noise at 16 kHz, (1, 2, 16000)."""
    return 0.1 * torch.randn(1, 2, 16000, generator=torch.Generator().manual_seed(0))
