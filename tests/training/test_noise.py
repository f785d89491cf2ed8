"""Draws of training: per sample, with the right frequency, and a function of seed and place alone."""

from dataclasses import astuple

import torch

from idlora_pl.data.samples import PairBatch
from idlora_pl.method.tokens import TextFeatures
from idlora_pl.training.noise import draw_noise, generator_at, torch_seed, validation_generator


def blank(batch: int, dtype: torch.dtype = torch.float32) -> PairBatch:
    text = TextFeatures(torch.zeros(batch, 1, 1), torch.zeros(batch, 1, 1), torch.ones(batch, 1, dtype=torch.bool))
    video, audio = torch.zeros(batch, 3, 2, 2, 2, dtype=dtype), torch.zeros(batch, 2, 5, 4)
    return PairBatch(video, audio, torch.zeros(0), text, [{}] * batch)


def test_a_place_always_draws_the_same():
    first, again = (draw_noise(blank(3), 0.5, generator_at(42, 1, 7, 0)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(astuple(first), astuple(again), strict=True))


def test_seed_epoch_batch_and_rank_each_change_the_draws():
    places = [(42, 0, 0, 0), (43, 0, 0, 0), (42, 1, 0, 0), (42, 0, 1, 0), (42, 0, 0, 1)]
    sigmas = {float(draw_noise(blank(1), 0.5, generator_at(*place)).sigma) for place in places}
    assert len(sigmas) == len(places)


def test_validation_draws_the_noise_of_no_batch_of_training():
    # SeedSequence pads with zeros: (seed, batch, rank) was (seed, epoch = batch, batch = 0)
    places = [(epoch, batch, rank) for epoch in range(6) for batch in range(6) for rank in range(3)]
    trained = {generator_at(42, *place).initial_seed() for place in places}
    validated = {validation_generator(42, batch, rank).initial_seed() for batch in range(30) for rank in range(3)}
    assert len(trained) == len(places)
    assert len(validated) == 90
    assert not trained & validated


def test_no_bit_of_a_seed_is_lost():
    seeds = [42, *(42 + 2**bit for bit in range(29, 63))]
    assert len({generator_at(seed, 0, 0, 0).initial_seed() & 0xFFFFFFFF for seed in seeds}) == len(seeds)
    assert len({torch_seed(seed) for seed in seeds}) == len(seeds)
    assert max(map(torch_seed, seeds)) < 2**32


def test_noise_has_the_shapes_of_the_tokens():
    noise = draw_noise(blank(3), 0.5, generator_at(0))
    assert noise.video.shape == (3, 8, 3)
    assert noise.audio.shape == (3, 5, 8)
    assert noise.sigma.shape == noise.first_frame.shape == (3,)
    assert ((noise.sigma > 0) & (noise.sigma < 1)).all()


def test_the_first_frame_coin_falls_per_sample_with_its_probability():
    coins = draw_noise(blank(2000), 0.9, generator_at(0)).first_frame
    # standard deviation of the mean: 0.0067
    assert abs(coins.float().mean() - 0.9) < 0.02
    assert 0 < draw_noise(blank(64), 0.5, generator_at(0)).first_frame.sum() < 64
    assert draw_noise(blank(64), 1.0, generator_at(0)).first_frame.all()
    assert not draw_noise(blank(64), 0.0, generator_at(0)).first_frame.any()


def test_one_coin_a_batch_falls_alike_for_its_samples_and_with_its_probability():
    tossed = [draw_noise(blank(4), 0.9, generator_at(0, place), coin="batch").first_frame for place in range(1000)]
    coins = torch.stack(tossed)
    assert (coins == coins[:, :1]).all()
    # standard deviation of the mean of 1000 coins: 0.0095
    assert abs(coins[:, 0].float().mean() - 0.9) < 0.03


def test_noise_in_the_stored_precision_is_that_noise_rounded():
    batch = blank(2, torch.bfloat16)
    exact, rounded = (
        draw_noise(batch, 0.5, generator_at(0), precision=precision) for precision in ("float32", "stored")
    )
    assert exact.video.dtype == torch.float32
    assert rounded.video.dtype == torch.bfloat16
    assert torch.equal(rounded.video, exact.video.bfloat16())
    assert torch.equal(rounded.audio, exact.audio)
    assert torch.equal(rounded.sigma, exact.sigma)


def test_stretched_noise_levels_are_drawn_by_name():
    plain, stretched = (draw_noise(blank(500), 0.5, generator_at(0), levels=x) for x in ("logit_normal", "stretched"))
    assert stretched.sigma.shape == (500,)
    # eight video tokens shift the levels by 0.59: 0.05 lies 3.5 deviations below the mean of the plain levels
    assert plain.sigma.min() > 0.05 > stretched.sigma.min()
