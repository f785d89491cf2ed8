"""What our choices change in what the model is fed; that the faithful ones equal the authors' is `idlora parity`'s."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from idlora_pl.data.samples import PairBatch
from idlora_pl.method.flow import sample_sigma, stretched_sigma
from idlora_pl.method.in_context import InContext
from idlora_pl.method.positions import AudioGrid, Geometry, VideoGrid
from idlora_pl.method.tokens import AVSequence, TextContext, TextFeatures, Tokens
from idlora_pl.training.noise import Noise
from idlora_pl.training.objective import Objective, velocity_targets

GOLDEN = Path(__file__).parent / "golden"
POSITIONS = load_file(GOLDEN / "positions.safetensors")


def same(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    return actual.dtype == expected.dtype and torch.equal(actual, expected)


def assembled(precision: str, n_reference: int = 3, n_target: int = 3, video: str = "1x1x1@25") -> AVSequence:
    shape, fps = video.split("@")
    grids = Geometry(VideoGrid(float(fps)), AudioGrid())
    places = grids.video.positions(*(int(n) for n in shape.split("x"))), grids.audio.positions(n_target)
    latents = [torch.zeros(1, place.shape[2], 4) for place in places]
    tokens = [Tokens(x, place, x[..., 0] > 0) for x, place in zip(latents, places, strict=True)]
    text = TextContext(torch.zeros(1, 1, 4), torch.zeros(1, 1, 4))
    return InContext(positions=precision).assemble(*tokens, text, torch.zeros(1, n_reference, 4), grids.audio)


def test_mixed_positions_have_the_video_of_the_bfloat16_ones():
    for video in ("3x2x2@25.0", "16x4x4@24.0"):
        assert same(assembled("mixed", video=video).video.positions, POSITIONS[f"video.{video}.bf16"])


@pytest.fixture
def prepared() -> dict[str, torch.Tensor]:
    """What the trainer makes of a batch in the dtypes of its files: video latents bfloat16, audio latents float32."""
    return load_file(GOLDEN / "train_prep_stored_dtypes.safetensors")


def stored(prepared: dict[str, torch.Tensor]) -> tuple[PairBatch, Noise]:
    latents = (prepared[f"batch.{name}_latents"] for name in ("video", "audio", "ref_audio"))
    text = TextFeatures(torch.zeros(2, 6, 4), torch.zeros(2, 6, 4), torch.ones(2, 6, dtype=torch.bool))
    given = prepared["prep.video_timesteps"][:, 0] == 0
    return PairBatch(*latents, text, [{}, {}]), Noise(*(prepared[x] for x in ("sigma", *NOISES)), given)


NOISES = ("noise.video", "noise.audio")


def test_velocities_in_float32_differ_from_stored_ones_by_rounding(prepared):
    batch, noise = stored(prepared)
    video, audio = velocity_targets(batch, noise, Objective())
    assert video.dtype == audio.dtype == torch.float32
    # bfloat16 has 8 significant bits: a stored velocity is off by up to 2^-8 of itself
    error = (video - prepared["prep.video_targets"].float()).abs()
    assert error.max() > 0
    assert (error <= video.abs() * 2**-8).all()


def test_the_2_3_trainer_draws_normals_then_levels_then_choices():
    drawn = sample_sigma(5, 4096, torch.Generator().manual_seed(3), levels="stretched")
    generator = torch.Generator().manual_seed(3)
    normals, *uniform = torch.randn(5, generator=generator), *(torch.rand(5, generator=generator) for _ in "uc")
    assert torch.equal(drawn, stretched_sigma(normals, *uniform, shift=2.05))
