"""Sampling: exact end points, tokens that stay, and noise that does not depend on the batch."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.method.flow import velocity, x_sigma
from idlora_pl.method.noise import Draws, noise_generator
from idlora_pl.method.sampler import sample_euler
from idlora_pl.method.tokens import AVSequence, TextContext, Tokens

schedules = st.lists(st.integers(1, 63), unique=True).map(
    lambda levels: torch.tensor([64, *sorted(levels, reverse=True), 0]) / 64
)


def constant_case(batch=2):
    def tokens(n_tokens, n_clean, n_reference=0):
        latents = torch.randint(-8, 8, (batch, n_tokens, 3)).float()
        clean = (torch.arange(n_tokens) < n_clean).expand(batch, -1)
        return Tokens(latents, torch.zeros(batch, 1, n_tokens, 2), clean, n_reference)

    text = TextContext(torch.zeros(batch, 1, 1), torch.zeros(batch, 1, 1))
    start = AVSequence(tokens(6, 2), tokens(7, 3, n_reference=3), text)
    return start, (torch.randint(-8, 8, (batch, 6, 3)).float(), torch.randint(-8, 8, (batch, 4, 3)).float())


@given(schedules)
def test_a_constant_velocity_field_gives_the_exact_end_point(sigmas):
    start, field = constant_case()
    end = sample_euler(lambda av, sigma: field, start, sigmas)
    # whole numbers and 64ths: float32 makes no rounding error
    moved = ~start.video.clean
    assert torch.equal(end.video.latents[moved], (start.video.latents - field[0])[moved])
    assert torch.equal(end.audio.target().latents, start.audio.target().latents - field[1])


@given(schedules)
def test_clean_tokens_never_move(sigmas):
    start, field = constant_case()
    end = sample_euler(lambda av, sigma: field, start, sigmas)
    assert torch.equal(end.video.latents[start.video.clean], start.video.latents[start.video.clean])
    assert torch.equal(end.audio.latents[:, :3], start.audio.latents[:, :3])


def test_the_true_velocity_leads_from_noise_to_the_data(make_sequence):
    av = make_sequence(batch=2)
    x0, noise = av.video.latents, torch.randn(2, 8, 128)
    clean = av.video.clean
    start = replace(av, video=av.video.with_latents(x_sigma(x0, noise, torch.ones(2), clean)))
    still = torch.zeros_like(av.audio.target().latents)
    end = sample_euler(lambda av, sigma: (velocity(x0, noise), still), start, torch.linspace(1, 0, 9))
    torch.testing.assert_close(end.video.latents, x0)


def test_every_step_is_reported_with_its_noise_level(make_sequence):
    levels, steps = [], []

    def field(av, sigma):
        levels.append(sigma.tolist())
        return torch.zeros_like(av.video.latents), torch.zeros_like(av.audio.target().latents)

    sigmas = torch.tensor([1.0, 0.5, 0.25, 0.0])
    sample_euler(field, make_sequence(batch=2), sigmas, on_step=lambda step, av: steps.append(step))
    assert levels == [[1.0, 1.0], [0.5, 0.5], [0.25, 0.25]]
    assert steps == [0, 1, 2]


@given(schedules, st.integers(1, 3))
def test_a_batch_equals_its_samples_one_by_one(sample_of, sigmas, batch):
    def field(av, sigma):
        level = sigma[:, None, None] + av.audio.latents.mean(dim=(1, 2), keepdim=True)
        return (av.video.latents * level).sin(), (av.audio.target().latents + level).cos()

    start, _ = constant_case(batch)
    video, audio = Draws(range(batch), "independent").stage((6, 3), (7, 3))
    start = replace(start, video=start.video.with_latents(video), audio=start.audio.with_latents(audio))
    together = sample_euler(field, start, sigmas)
    for index in range(batch):
        alone = sample_euler(field, sample_of(start, index), sigmas)
        for own, whole in ((alone.video, together.video), (alone.audio, together.audio)):
            torch.testing.assert_close(own.latents, whole.latents[index : index + 1])


@given(st.integers(0, 2**31))
def test_video_and_audio_noise_of_one_seed_differ(seed):
    assert not torch.equal(*Draws([seed], "independent").stage((4, 3), (4, 3)))


@given(st.integers(0, 2**62), st.integers(29, 62), st.sampled_from([None, 0, 1, 2, 3, 4]))
def test_seeds_that_differ_in_a_high_bit_share_no_noise(seed, bit, stage):
    one, other = (noise_generator(who, 0, fresh_of_stage=stage) for who in (seed, seed ^ 2**bit))
    # the CPU generator keeps 32 bits
    assert one.initial_seed() & 0xFFFFFFFF != other.initial_seed() & 0xFFFFFFFF


def test_start_and_fresh_noise_of_every_stage_and_stream_differ():
    kinds = [(stream, stage) for stream in (0, 1) for stage in (None, 0, 1, 2, 3, 4)]
    for seeds in ([0, 1, 7, 2**29 - 1], [2**29, 2**31, 2**40 + 7]):
        found = [noise_generator(seed, s, fresh_of_stage=stage).initial_seed() for seed in seeds for s, stage in kinds]
        assert len({number & 0xFFFFFFFF for number in found}) == len(found)


@pytest.mark.parametrize("seed", [2**32, 2**40 + 7])
def test_the_released_order_refuses_a_seed_that_repeats_another_ones_noise(seed):
    with pytest.raises(ValueError, match=f"seed {seed} repeats the noise of seed {seed % 2**32} in the released order"):
        Draws([seed], "released")


def test_an_unknown_noise_stream_is_refused():
    with pytest.raises(ValueError, match=r"stream must be 0 \(video\) or 1 \(audio\); got 2"):
        noise_generator(0, 2)


def test_released_noise_of_the_target_depends_on_the_length_of_the_reference():
    short, long = (Draws([0], "released").stage((4, 8), (7, 8), n_reference=n)[1] for n in (0, 2))
    assert not torch.equal(short, long)
