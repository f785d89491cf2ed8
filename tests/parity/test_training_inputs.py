"""What the authors' trainer feeds its model, bit for bit: positions, noisy tokens, velocities, noise levels."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from idlora_pl.data.samples import PairBatch
from idlora_pl.method.flow import sample_sigma, sigma_shift, stretched_sigma
from idlora_pl.method.in_context import InContext
from idlora_pl.method.masks import HIDDEN, text_bias
from idlora_pl.method.positions import AudioGrid, Geometry, VideoGrid
from idlora_pl.method.tokens import AVSequence, TextContext, TextFeatures, Tokens
from idlora_pl.training.noise import Noise
from idlora_pl.training.objective import Objective, noisy_sequence, velocity_targets

GOLDEN = Path(__file__).parent / "golden"
POSITIONS = load_file(GOLDEN / "positions.safetensors")
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}


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


@pytest.mark.parametrize("name", POSITIONS)
def test_positions_equal_the_authors_bit_for_bit(name):
    kind, size, *rest = name.split(".")
    if kind == "video":
        size, precision = name.removeprefix("video.").rsplit(".", 1)
        actual = assembled(PRECISIONS[precision], video=size).video.positions
    elif kind == "inference_cat":
        lengths = int(size.removeprefix("ref")), int(rest[0].removeprefix("target"))
        actual = assembled("mixed", *lengths).audio.positions
    else:
        n_tokens, precision = int(size), PRECISIONS[rest[0]]
        audio = assembled(precision, n_tokens, n_tokens).audio
        actual = audio.positions[:, :, :n_tokens] if kind == "ref" else audio.target().positions
    assert same(actual, POSITIONS[name])


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


def test_the_sequence_of_a_stored_batch_equals_the_authors_bit_for_bit(prepared):
    batch, noise = stored(prepared)
    recipe = InContext(hidden_text="uniform", positions="bfloat16")
    text = TextContext(batch.text.video, batch.text.audio)
    av = noisy_sequence(recipe, Geometry(), batch, noise, text)
    assert same(av.video.latents, prepared["prep.video_noisy"])
    assert same(av.audio.latents, prepared["prep.audio_combined"])
    assert same(av.video.timesteps(noise.sigma), prepared["prep.video_timesteps"])
    assert same(av.audio.timesteps(noise.sigma), prepared["prep.audio_timesteps"])
    assert same(av.video.positions, prepared["prep.video_coords"])
    assert same(av.audio.positions, prepared["prep.audio_coords"])
    # their masks hold the smallest number of bfloat16 where ours cut keys or hold HIDDEN
    assert torch.equal((prepared["prep.a2v_mask"] < 0)[0, 0], torch.arange(12) < av.audio.n_reference)
    assert not av.video_sees_reference
    assert torch.equal(text_bias(av, torch.float32)[1] == HIDDEN, prepared["prep.audio_text_mask"] < 0)


def test_the_velocities_of_a_stored_batch_equal_the_authors_bit_for_bit(prepared):
    batch, noise = stored(prepared)
    video, audio = velocity_targets(batch, noise, Objective(target_precision="stored"))
    assert same(video, prepared["prep.video_targets"])
    assert same(audio, prepared["prep.audio_targets"])
    video, audio = velocity_targets(batch, noise, Objective())
    assert video.dtype == audio.dtype == torch.float32
    # bfloat16 has 8 significant bits: a stored velocity is off by up to 2^-8 of itself
    error = (video - prepared["prep.video_targets"].float()).abs()
    assert error.max() > 0
    assert (error <= video.abs() * 2**-8).all()


def test_noise_levels_of_the_19b_trainer_equal_the_authors():
    golden = load_file(GOLDEN / "timestep_sampler_v1.safetensors")
    shifts = json.loads((GOLDEN / "shift.json").read_text())
    for n_tokens, shift in shifts.items():
        assert sigma_shift(int(n_tokens)) == pytest.approx(shift, abs=1e-12)
        expected = golden[f"v1.sigma.{n_tokens}"]
        torch.testing.assert_close(torch.sigmoid(golden["normals"] + sigma_shift(int(n_tokens))), expected)


def test_noise_levels_of_the_2_3_trainer_equal_the_authors():
    golden = load_file(GOLDEN / "timestep_sampler_v23.safetensors")
    draws = golden["normals"], golden["uniform"], golden["prob"]
    for name in [name for name in golden if name.startswith("v2.")]:
        actual = stretched_sigma(*draws, sigma_shift(int(name.rsplit(".", 1)[1])))
        torch.testing.assert_close(actual, golden[name], atol=1e-6, rtol=0)


def test_the_2_3_trainer_draws_normals_then_levels_then_choices():
    drawn = sample_sigma(5, 4096, torch.Generator().manual_seed(3), levels="stretched")
    generator = torch.Generator().manual_seed(3)
    normals, *uniform = torch.randn(5, generator=generator), *(torch.rand(5, generator=generator) for _ in "uc")
    assert torch.equal(drawn, stretched_sigma(normals, *uniform, shift=2.05))
