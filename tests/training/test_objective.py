"""The objective: the choices that name the authors' training, and what padding may and may not change."""

from dataclasses import replace

import pytest
import torch

from idlora_pl.data.samples import PairBatch, ShardError
from idlora_pl.ltx2.lora import attach_lora
from idlora_pl.ltx2.presets import PRESETS
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.in_context import InContext
from idlora_pl.method.tokens import TextContext, TextFeatures
from idlora_pl.training.noise import Noise, draw_noise, generator_at, unpadded
from idlora_pl.training.objective import Objective, flow_losses, velocity_targets

LENGTHS = [(6, 5), (4, 5), (6, 3), (4, 5)]  # (target, reference) tokens of four clips
AS_AUTHORS = Objective(padding_in_loss=True)


@pytest.fixture
def model(smoke_ltx2) -> LTX2:
    """The smoke model with an adapter that does something."""
    model = LTX2(smoke_ltx2.preset)
    model.load_state_dict(smoke_ltx2.state_dict())
    attach_lora(model, rank=2)
    for name, weight in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model


def padded(lengths: list[tuple[int, int]] = LENGTHS) -> tuple[PairBatch, TextContext]:
    """Clips of these lengths, padded with zeros to the longest."""
    n_clips, (n_target, n_reference) = len(lengths), map(max, zip(*lengths, strict=True))
    audio, reference = torch.randn(n_clips, 8, n_target, 16), torch.randn(n_clips, 8, n_reference, 16)
    for row, (target_tokens, reference_tokens) in enumerate(lengths):
        audio[row, :, target_tokens:], reference[row, :, reference_tokens:] = 0, 0
    meta = [{"key": f"c{row}", "target_tokens": t, "reference_tokens": r} for row, (t, r) in enumerate(lengths)]
    features = torch.randn(n_clips, 5, 24)
    text = TextFeatures(features, features, torch.ones(n_clips, 5, dtype=torch.bool))
    return PairBatch(torch.randn(n_clips, 128, 2, 2, 2), audio, reference, text, meta), TextContext(features, features)


def alone(batch: PairBatch, noise: Noise, text: TextContext, row: int) -> tuple[PairBatch, Noise, TextContext]:
    """One clip by itself, without padding and without lengths in its meta."""
    n_target, n_reference = LENGTHS[row]
    one = slice(row, row + 1)
    features = TextFeatures(batch.text.video[one], batch.text.audio[one], batch.text.mask[one])
    audio, reference = batch.target_audio[one, :, :n_target], batch.reference[one, :, :n_reference]
    return (
        PairBatch(batch.target_video[one], audio, reference, features, [{}]),
        Noise(noise.sigma[one], noise.video[one], noise.audio[one, :n_target], noise.first_frame[one]),
        TextContext(text.video[one], text.audio[one]),
    )


def test_without_padding_a_batch_stays_as_it_is():
    batch, text = padded([(6, 5), (6, 5)])
    noise = draw_noise(batch, 0.5, generator_at(0))
    for meta in ([{}, {}], batch.meta):
        ((same_batch, same_noise, same_text),) = unpadded(whole := replace(batch, meta=meta), noise, text)
        assert (same_batch, same_noise, same_text) == (whole, noise, text)


@pytest.mark.parametrize("placement", ["negative", "after"])
def test_the_loss_of_a_padded_batch_is_that_of_its_clips_one_by_one(model, placement):
    batch, text = padded()
    noise, recipe = draw_noise(batch, 0.5, generator_at(0)), InContext(placement)
    with torch.no_grad():
        together = flow_losses(model, recipe, batch, noise, text)
        single = [flow_losses(model, recipe, *alone(batch, noise, text, row)) for row in range(4)]
    n_audio = torch.tensor([float(n_target) for n_target, _ in LENGTHS])
    n_video = (8 - 4 * noise.first_frame).float()
    for name, counts in (("audio", n_audio), ("video", n_video)):
        expected = (torch.stack([losses[name] for losses in single]) * counts).sum() / counts.sum()
        torch.testing.assert_close(together[name], expected, atol=2e-6, rtol=0)


def test_padding_reaches_nothing_by_default_and_everything_as_the_authors_do(model):
    batch, text = padded()
    noise, filled = draw_noise(batch, 0.5, generator_at(0)), [batch.target_audio.clone(), batch.reference.clone()]
    for row, lengths in enumerate(LENGTHS):
        for latents, length in zip(filled, lengths, strict=True):
            latents[row, :, length:] = 7.0
    other = replace(batch, target_audio=filled[0], reference=filled[1])
    with torch.no_grad():
        ours = [flow_losses(model, InContext(), part, noise, text) for part in (batch, other)]
        theirs = [flow_losses(model, InContext(), part, noise, text, objective=AS_AUTHORS) for part in (batch, other)]
    assert ours[0] == ours[1]
    assert theirs[0]["audio"] != theirs[1]["audio"]
    assert theirs[0]["video"] != theirs[1]["video"]


def test_padding_in_the_loss_ignores_the_true_lengths(model):
    batch, text = padded()
    noise = draw_noise(batch, 0.5, generator_at(0))
    untold = replace(batch, meta=[{}] * 4)
    with torch.no_grad():
        counted = flow_losses(model, InContext(), batch, noise, text, objective=AS_AUTHORS)
        assert counted == flow_losses(model, InContext(), untold, noise, text, objective=AS_AUTHORS)
        assert counted == flow_losses(model, InContext(), untold, noise, text)


def test_the_gradient_of_a_padded_batch_reaches_the_adapter_from_every_part(model):
    batch, text = padded()
    noise = draw_noise(batch, 0.5, generator_at(0))
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    sum(flow_losses(model, InContext(), batch, noise, text).values()).backward()
    together = [weight.grad.clone() for weight in weights]
    model.zero_grad()
    counts = [sum(LENGTHS[row][0] for row in range(4)), float((8 - 4 * noise.first_frame).sum())]
    for row in range(4):
        losses = flow_losses(model, InContext(), *alone(batch, noise, text, row))
        n_audio, n_video = LENGTHS[row][0], 8 - 4 * float(noise.first_frame[row])
        (losses["audio"] * n_audio / counts[0] + losses["video"] * n_video / counts[1]).backward()
    for grad, weight in zip(together, weights, strict=True):
        torch.testing.assert_close(grad, weight.grad, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "length", "message"),
    [
        ("target_tokens", 7, r"clip c0: meta 'target_tokens' must be a whole number in 1\.\.6; got 7"),
        ("reference_tokens", 0, r"meta 'reference_tokens' must be a whole number in 1\.\.5; got 0"),
        ("target_tokens", "6", "got '6'"),
        ("target_tokens", True, "got True"),
    ],
)
def test_a_true_length_that_cannot_be_is_refused(name, length, message):
    batch, text = padded()
    batch.meta[0][name] = length
    with pytest.raises(ShardError, match=message):
        unpadded(batch, draw_noise(batch, 0.5, generator_at(0)), text)


def test_stored_precision_changes_the_velocities_by_their_rounding_alone():
    batch, _ = padded()
    low = replace(batch, target_video=batch.target_video.bfloat16())
    noise = draw_noise(low, 0.5, generator_at(0), precision="stored")
    exact, stored = (velocity_targets(low, noise, Objective(target_precision=x)) for x in ("float32", "stored"))
    assert torch.equal(stored[0], exact[0].bfloat16())
    assert torch.equal(stored[1], exact[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first_frame_coin": "rank"}, "first_frame_coin must be one of sample, batch; got 'rank'"),
        ({"target_precision": "bfloat16"}, "target_precision must be one of float32, stored; got 'bfloat16'"),
        ({"noise_levels": "uniform"}, "noise_levels must be one of preset, logit_normal, stretched; got 'uniform'"),
        ({"padding_in_loss": "no"}, "padding_in_loss must be true or false; got 'no'"),
    ],
)
def test_a_value_that_is_no_choice_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Objective(**settings)


def test_the_base_model_says_which_noise_levels_its_trainer_draws():
    found = {name: Objective().levels(preset) for name, preset in PRESETS.items()}
    plain = "logit_normal"
    assert found == {"nano": plain, "smoke": plain, "ltx2-19b": plain, "ltx2.3-22b": "stretched"}
    assert {Objective(noise_levels="stretched").levels(preset) for preset in PRESETS.values()} == {"stretched"}


def test_the_draws_of_a_step_follow_the_objective():
    batch, _ = padded()
    low = replace(batch, target_video=batch.target_video.bfloat16())
    faithful = Objective("batch", target_precision="stored", noise_levels="stretched")
    drawn = [faithful.draw(low, 0.5, generator_at(place), PRESETS["smoke"]) for place in range(20)]
    assert all(len(set(noise.first_frame.tolist())) == 1 for noise in drawn)
    assert drawn[0].video.dtype == torch.bfloat16
    expected = draw_noise(low, 0.5, generator_at(0), coin="batch", levels="stretched", precision="stored")
    assert torch.equal(drawn[0].sigma, expected.sigma)
    assert torch.equal(Objective().draw(low, 0.5, generator_at(0), PRESETS["ltx2.3-22b"]).sigma, expected.sigma)
    ours = [Objective().draw(low, 0.5, generator_at(place), PRESETS["smoke"]).first_frame for place in range(20)]
    assert any(len(set(coins.tolist())) == 2 for coins in ours)
