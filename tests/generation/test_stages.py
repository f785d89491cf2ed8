"""Stages: what a stage may be, what it starts from, and the noise that it gets."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.generation.sampling import REFINING, Sampling, Stage, refuse_missing_files, with_stages
from idlora_pl.generation.stages import refined_start, sample_stage, stage_sigmas
from idlora_pl.method.guidance import TextGuidance
from idlora_pl.method.noise import Draws, noise_generator
from idlora_pl.method.positions import VideoGrid
from idlora_pl.method.tokens import patchify_video

SEEDS = st.lists(st.integers(0, 2**31), min_size=1, max_size=4)
ORDERS = st.sampled_from(["independent", "released"])


def refined(done, **options):
    """A refined start of 2x2x2 latents at sigma 0.75."""
    video, noise = torch.randn(len(done.video.latents), 128, 2, 2, 2), torch.randn(len(done.video.latents), 8, 128)
    return video, noise, refined_start(done, video, noise=noise, sigma=0.75, grid=VideoGrid(), **options)


def test_a_refined_start_is_the_video_taken_back_to_the_noise_level(make_sequence):
    done = make_sequence(batch=2)
    first = torch.randn(2, 4, 128)
    video, noise, start = refined(done, first_frame=first)
    assert start.video.clean.tolist() == [[True] * 4 + [False] * 4] * 2
    assert torch.equal(start.video.latents[:, :4], first)
    expected = 0.25 * patchify_video(video) + 0.75 * noise
    assert torch.equal(start.video.latents[:, 4:], expected[:, 4:])
    assert torch.equal(start.video.positions, done.video.positions)


def test_a_refined_start_without_a_face_has_no_clean_video(make_sequence):
    assert not refined(make_sequence())[2].video.clean.any()


def test_frozen_audio_is_the_target_alone_and_all_of_it_is_clean(make_sequence):
    done = make_sequence()
    audio = refined(done)[2].audio
    assert audio.n_reference == 0
    assert audio.clean.all()
    assert torch.equal(audio.latents, done.audio.target().latents)
    assert torch.equal(audio.positions, done.audio.target().positions)


def test_sound_that_is_refined_keeps_its_voice(make_sequence):
    done, noise = make_sequence(), torch.randn(1, 6, 128)
    audio = refined(done, audio_noise=noise)[2].audio
    assert audio.n_reference == 3
    assert torch.equal(audio.latents[:, :3], done.audio.latents[:, :3])
    assert torch.equal(audio.target().latents, 0.25 * done.audio.target().latents + 0.75 * noise)
    assert torch.equal(audio.clean, done.audio.clean)


def test_a_stage_runs_its_own_noise_levels_and_terms(make_sequence):
    stage = Stage(sigmas=(0.5, 0.25, 0.0), text_scale=(2.0, 1.0), identity_scale=0, perturbed_scale=0, modality_scale=1)
    start, calls = make_sequence(), []

    def field(av, sigma):
        calls.append((float(sigma), av.text is start.text))
        return torch.zeros_like(av.video.latents), torch.zeros_like(av.audio.target().latents)

    sample_stage(field, start, stage, stg_block=1, negative=make_sequence(seed=1).text)
    assert calls == [(0.5, True), (0.5, False), (0.25, True), (0.25, False)]


def test_a_block_of_the_stage_goes_before_the_presets():
    blocks = [Stage(perturbed_block=block).guidance(29)[2].blocks for block in (None, 28, (28, 29))]
    assert blocks == [(29,), (28,), (28, 29)]
    assert Stage(perturbed_modalities="video").guidance(29)[2].modalities == "video"


def test_the_shift_is_that_of_4096_tokens_or_of_the_clip():
    assert torch.equal(stage_sigmas(Stage(), 12), stage_sigmas(Stage(), 4096))
    own = replace(Stage(), shift_tokens=None)
    assert not torch.equal(stage_sigmas(own, 12), stage_sigmas(own, 4096))
    assert torch.equal(stage_sigmas(own, 4096), stage_sigmas(Stage(), 12))


@given(SEEDS, ORDERS)
def test_noise_of_a_clip_does_not_depend_on_its_batch(seeds, order):
    together = Draws(seeds, order)
    alone = [Draws([seed], order) for seed in seeds]
    for shapes in (((4, 16), (3, 16)), ((9, 16), (3, 16))):  # two stages
        made = together.stage(*shapes, n_reference=2)
        single = [draws.stage(*shapes, n_reference=2) for draws in alone]
        for part in (0, 1):
            assert torch.equal(made[part], torch.cat([one[part] for one in single]))


@given(SEEDS)
def test_independent_noise_has_a_generator_for_each_sample_and_modality(seeds):
    video, audio = Draws(seeds, "independent").stage((4, 16), (3, 16), n_reference=2)
    for stream, (made, n_tokens) in enumerate(((video, 4), (audio, 3))):
        drawn = [torch.randn(n_tokens, 16, generator=noise_generator(seed, stream)) for seed in seeds]
        assert torch.equal(made, torch.stack(drawn))


def test_released_noise_is_one_stream_in_the_scripts_order():
    stream = torch.Generator().manual_seed(7)
    drawn = [torch.randn(size, generator=stream) for size in ((4, 16), (2 + 3, 16), (9, 16), (3, 16))]
    draws = Draws([7], "released")
    first, second = draws.stage((4, 16), (3, 16), n_reference=2), draws.stage((9, 16), (3, 16))
    assert torch.equal(first[0][0], drawn[0])
    assert torch.equal(first[1][0], drawn[1][2:])
    assert torch.equal(second[0][0], drawn[2])
    assert torch.equal(second[1][0], drawn[3])


def test_fresh_noise_differs_between_stages_and_clips_and_not_with_the_batch(make_sequence):
    draws, alone = Draws([7, 8], "independent"), Draws([8], "independent")
    first, second = next(draws.fresh(make_sequence(batch=2))), next(draws.fresh(make_sequence(batch=2)))
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first[1:], next(alone.fresh(make_sequence())))
    assert torch.equal(second[1:], next(alone.fresh(make_sequence())))


def test_a_res2s_stage_makes_two_evaluations_a_step_and_a_last_one(make_sequence):
    levels = []

    def field(av, sigma):
        levels.append(float(sigma))
        return torch.zeros_like(av.video.latents), torch.zeros_like(av.audio.target().latents)

    stage = replace(REFINING, sampler="res2s")
    sample_stage(field, make_sequence(), stage, stg_block=1)
    assert len(levels) == 2 * stage.n_steps + 1
    assert levels[::2] == pytest.approx([0.909375, 0.725, 0.421875, 0.0011])


def test_the_hq_list_is_that_of_the_released_script():
    made = with_stages("two_stage_hq")
    refining = made.then[0]
    assert (made.steps, made.sampler, made.shift_tokens, made.distilled_scale) == (15, "res2s", None, 0.25)
    assert made.guidance(29)[0] == TextGuidance(3.0, 7.0, projected=True)
    assert [made.identity_scale, made.perturbed_scale, made.modality_scale] == [3, 0, 3]
    assert refining == replace(REFINING, sampler="res2s", distilled_scale=0.5)


def test_noise_of_two_stages_differs():
    draws = Draws([7], "independent")
    assert not torch.equal(draws.stage((4, 16), (3, 16))[0], draws.stage((4, 16), (3, 16))[0])


def test_the_two_stage_list_is_that_of_the_released_script():
    made = with_stages("two_stage", Sampling(height=64, width=96))
    assert made.stages[0] == made == replace(with_stages("one_stage", made), then=(REFINING,))
    assert [made.size(index) for index in (0, 1, -1)] == [(64, 96), (128, 192), (128, 192)]
    assert REFINING.sigmas == (0.909375, 0.725, 0.421875, 0.0)
    assert (REFINING.adapter_scale, REFINING.distilled_scale, REFINING.frozen_audio) == (0, 0.8, True)
    assert not any(any(term.weights) for term in REFINING.guidance(29))
    assert isinstance(REFINING.guidance(29)[0], TextGuidance)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"sigmas": (0.5,)}, r"two or more noise levels that fall inside \[0, 1\]; got \(0.5,\)"),
        ({"sigmas": (0.5, 0.6, 0.0)}, r"noise levels that fall inside \[0, 1\]; got \(0.5, 0.6, 0.0\)"),
        ({"sigmas": (1.5, 0.0)}, r"inside \[0, 1\]"),
        ({"sigmas": (0.5, -0.1)}, r"inside \[0, 1\]"),
        ({"steps": 1}, "sampling.steps must be at least 2; got 1"),
        ({"shift_tokens": 0}, "sampling.shift_tokens must be at least 1, or null for the clip's own; got 0"),
        ({"sampler": "heun"}, "sampling.sampler must be euler or res2s; got 'heun'"),
        ({"upscale": 3}, "sampling.then.upscale must be 1 or 2, the upsampler's factor; got 3"),
    ],
)
def test_stages_that_cannot_be_sampled_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        Stage(**setting)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"upscale": 2}, "the first stage has nothing to refine; got sampling.upscale 2"),
        ({"frozen_audio": True}, "sampling.frozen_audio True: set them in a stage of sampling.then"),
        ({"then": (Stage(frozen_audio=True), Stage())}, "a stage after frozen_audio cannot move the sound"),
        ({"noise": "white"}, "sampling.noise must be independent or released; got 'white'"),
        ({"recipe": "paper"}, "sampling.recipe must be trained or released; got 'paper'"),
    ],
)
def test_a_first_stage_that_cannot_be_sampled_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**setting)


@pytest.mark.parametrize("stage", [Stage(), Stage(sigmas=(1.0, 0.5, 0.0)), Stage(steps=8)])
def test_a_later_stage_that_would_drown_the_one_before_is_refused(stage):
    with pytest.raises(ValueError, match=r"sampling.then\[0\].sigmas must start below 1, or nothing is left"):
        Sampling(then=(stage,))


def test_extra_weights_that_do_not_exist_are_refused_by_the_name_of_their_option(tmp_path):
    refuse_missing_files(upsampler=tmp_path, distilled_lora=None)
    with pytest.raises(FileNotFoundError, match="distilled_lora: nowhere.safetensors does not exist"):
        refuse_missing_files(upsampler=None, distilled_lora="nowhere.safetensors")
