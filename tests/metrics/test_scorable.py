"""Which clips have no score, and under which code."""

import pytest
import torch
from torch import Tensor

from idlora_pl.metrics.scorable import Unscorable, check_embedding, check_frames, check_waveform

RATE = 16000


def tone(n_samples: int = RATE) -> Tensor:
    return 0.1 * torch.sin(torch.arange(n_samples) * 0.3)


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [
        (torch.zeros(0), "no_audio"),
        (torch.full((RATE,), float("nan")), "not_finite"),
        (torch.cat([tone(), torch.tensor([float("inf")])]), "not_finite"),
        (tone(3199), "too_short"),
        (torch.zeros(RATE), "silent"),
        (torch.full((RATE,), 0.5), "silent"),
        (2e-5 * tone(), "silent"),
    ],
)
def test_an_unscorable_sound_has_a_reason(waveform: Tensor, reason: str) -> None:
    with pytest.raises(Unscorable, match=f"^{reason}$"):
        check_waveform(waveform, RATE)
    with pytest.raises(Unscorable, match=f"^reference_{reason}$"):
        check_waveform(waveform, RATE, role="reference")


def test_a_scorable_sound_comes_back_as_float32() -> None:
    torch.testing.assert_close(check_waveform(tone(3200).double(), RATE), tone(3200))


@pytest.mark.parametrize("frames", [torch.zeros(0, 3, 8, 8), torch.zeros(5, 3, 0, 8)])
def test_a_clip_without_pixels_has_no_frames(frames: Tensor) -> None:
    with pytest.raises(Unscorable, match="^no_frames$"):
        check_frames(frames.to(torch.uint8), 25.0)


def test_an_embedding_with_nan_is_refused() -> None:
    with pytest.raises(Unscorable, match="^embedding_not_finite$"):
        check_embedding(torch.tensor([1.0, float("nan")]))


def test_wrong_shapes_types_and_rates_are_errors_and_not_reasons() -> None:
    with pytest.raises(ValueError, match=r"mono samples; got shape \(2, 100\)"):
        check_waveform(torch.zeros(2, 100), RATE)
    with pytest.raises(ValueError, match="sample_rate_hz must be positive; got 0"):
        check_waveform(tone(), 0)
    with pytest.raises(ValueError, match=r"uint8 \(F, 3, H, W\); got torch.float32 \(2, 3, 8, 8\)"):
        check_frames(torch.zeros(2, 3, 8, 8), 25.0)
    with pytest.raises(ValueError, match="frame_rate_fps must be positive; got -1"):
        check_frames(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), -1.0)
