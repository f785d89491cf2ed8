"""Sampling in several stages, end to end: sizes, what is kept, what is refused, and the clips of `idlora predict`."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from idlora_pl.cli import main
from idlora_pl.generation.pipeline import IDLoRAPipeline
from idlora_pl.generation.request import Request
from idlora_pl.generation.sampling import REFINING, default_sampling, with_stages
from idlora_pl.ltx2.adapter_format import LoRA
from idlora_pl.ltx2.lora import lora_state_dict
from idlora_pl.media.reading import read_clip
from idlora_pl.media.writing import write_audio, write_image
from idlora_pl.training.module import IDLoRA

ROOT = Path(__file__).parents[2]
PROMPT = "[VISUAL]: A person talks. [SPEECH]: aa ee oo er [SOUNDS]: steady rain in the background"
LISTS = ["two_stage", "two_stage_hq"]
SMOKE = replace(default_sampling("smoke"), steps=2)


def a_request(seed: int, *, face: bool = True, voice: bool = True, size: int = 128) -> Request:
    random = torch.Generator().manual_seed(seed)
    picture = torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=random)
    sound = 0.1 * torch.randn(1, 8000, generator=random)
    return Request(PROMPT, picture if face else None, sound if voice else None, 16000, seed)


@pytest.fixture(scope="module")
def one_stage():
    return IDLoRAPipeline.from_pretrained("smoke", sampling=SMOKE)


@pytest.fixture(scope="module")
def two_stage(refining_weights):
    return IDLoRAPipeline.from_pretrained("smoke", sampling=with_stages("two_stage", SMOKE), **refining_weights)


def test_a_clip_of_two_stages_has_twice_the_size_and_sound(two_stage):
    steps = []
    clip = two_stage.generate([a_request(1)], on_step=lambda step, total: steps.append((step, total)))[0]
    assert clip.frames.shape == (17, 3, 128, 128)
    assert torch.isfinite(clip.waveform).all()
    assert clip.waveform.abs().max() > 0
    assert steps == [(step, 5) for step in range(5)]


@pytest.mark.parametrize("noise", ["independent", "released"])
def test_the_sound_of_two_stages_is_that_of_the_first_bit_for_bit(one_stage, two_stage, noise):
    # the same face at half the size: every pixel is four times as large
    small = a_request(1, size=64)
    large = replace(small, face=small.face.repeat_interleave(2, 1).repeat_interleave(2, 2))
    first = replace(one_stage, sampling=replace(one_stage.sampling, noise=noise)).sample([small])
    both = replace(two_stage, sampling=replace(two_stage.sampling, noise=noise)).sample([large])
    assert torch.equal(both.audio.latents, first.audio.target().latents)
    assert both.audio.n_reference == 0
    assert both.video.n_tokens == 4 * first.video.n_tokens


def test_the_first_frame_is_clean_at_both_stages_and_the_size_of_each(two_stage):
    request = a_request(1)
    halved = request.face.float().unflatten(1, (64, 2)).unflatten(3, (64, 2)).mean((2, 4)).round().to(torch.uint8)
    codecs = two_stage.codecs
    small, large = (codecs.encode_video(face[None, None]).flatten(2).mT for face in (halved, request.face))
    start, end = two_stage.sequence([request]).video, two_stage.sample([request]).video
    assert torch.equal(start.latents[:, :4], small)
    assert torch.equal(end.latents[:, :16], large)
    assert end.clean[:, :16].all()
    assert not end.clean[:, 16:].any()


def test_every_part_of_the_second_stage_matters(two_stage, refining_weights):
    def video(**changes):
        sampling = replace(two_stage.sampling, then=(replace(REFINING, **changes),))
        return replace(two_stage, sampling=sampling).sample([a_request(1)]).video.latents

    made = [video(), video(distilled_scale=0.0), video(sigmas=(0.725, 0.421875, 0.0)), video(text_scale=(3.0, 1.0))]
    assert all((one - other).abs().max() > 1e-3 for i, one in enumerate(made) for other in made[:i])
    assert torch.equal(made[0], video())


def test_a_stage_that_does_not_freeze_the_sound_refines_it(two_stage):
    sampling = replace(two_stage.sampling, then=(replace(REFINING, frozen_audio=False, identity_scale=1.0),))
    moved, frozen = (replace(two_stage, sampling=s).sample([a_request(1)]) for s in (sampling, two_stage.sampling))
    assert moved.audio.n_reference == 13
    assert not torch.equal(moved.audio.target().latents, frozen.audio.latents)


@pytest.mark.parametrize("name", LISTS)
def test_a_batch_has_the_latents_that_single_requests_have(two_stage, name):
    pipeline = replace(two_stage, sampling=replace(with_stages(name, two_stage.sampling), steps=2))
    requests = [a_request(1), a_request(2)]
    together = pipeline.sample(requests)
    for index, one in enumerate(requests):
        alone = pipeline.sample([one])
        # float32 matrix products differ by rounding with the batch size
        assert torch.allclose(together.video.latents[index], alone.video.latents[0], atol=1e-4)
        assert torch.allclose(together.audio.latents[index], alone.audio.latents[0], atol=1e-4)


def test_fresh_noise_depends_on_the_seed_of_the_clip_unless_it_is_the_released(two_stage):
    def change(noise):
        """How far two seeds are apart after one more round of noise in the same start."""
        set_up = replace(with_stages("two_stage_hq", two_stage.sampling), steps=2, noise=noise, then=())
        pipeline = replace(two_stage, sampling=set_up)
        starts = [pipeline._starts([a_request(seed, size=64)]) for seed in (1, 2)]
        drawn = [next(one.fresh(one.first())) for one in starts]
        return (drawn[0] - drawn[1]).abs().max()

    assert change("independent") > 1
    assert change("released") == 0


def test_one_stage_with_refining_weights_is_one_stage_without_bit_for_bit(one_stage, two_stage):
    again = replace(two_stage, sampling=with_stages("one_stage", two_stage.sampling))
    two_stage.sample([a_request(1)])
    one, other = one_stage.sample([a_request(1, size=64)]), again.sample([a_request(1, size=64)])
    assert torch.equal(one.video.latents, other.video.latents)
    assert torch.equal(one.audio.latents, other.audio.latents)


def test_the_released_recipe_shows_the_reference_to_the_video_and_the_text_to_the_reference(one_stage):
    released = replace(one_stage, sampling=replace(SMOKE, recipe="released"))
    trained, shown = (pipeline.sequence([a_request(1, size=64)]) for pipeline in (one_stage, released))
    assert (trained.video_sees_reference, trained.reference_sees_text) == (False, False)
    assert (shown.video_sees_reference, shown.reference_sees_text) == (True, True)
    assert (shown.video.positions.dtype, shown.audio.positions.dtype) == (torch.bfloat16, torch.float32)


def test_positions_of_the_second_stage_have_the_precision_of_the_first(two_stage):
    released = replace(two_stage, sampling=replace(two_stage.sampling, recipe="released"))
    assert released.sample([a_request(1)]).video.positions.dtype == torch.bfloat16


def test_a_face_of_the_first_stages_size_is_refused(two_stage):
    with pytest.raises(ValueError, match="face has 64x64 pixels, sampling is set to 128x128"):
        two_stage.generate([a_request(1, size=64)])


def test_sampling_two_stages_in_between_changes_nothing_that_is_trained_or_kept(refining_weights):
    weights = {name: str(path) for name, path in refining_weights.items()}
    module = IDLoRA(base="smoke", lora=LoRA(rank=2), sampling=with_stages("two_stage", SMOKE), **weights)
    trainable = [name for name, weight in module.named_parameters() if weight.requires_grad]
    kept = lora_state_dict(module.model)
    module.pipeline.sample([a_request(1)])
    assert [name for name, weight in module.named_parameters() if weight.requires_grad] == trainable
    again = lora_state_dict(module.model)
    assert kept.keys() == again.keys()
    assert all(torch.equal(kept[name], again[name]) for name in kept)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("noise", ["independent", "released"])
def test_the_hq_stages_run_in_the_dtype_of_the_weights(refining_weights, dtype, noise):
    set_up = replace(with_stages("two_stage_hq", SMOKE), steps=2, noise=noise, recipe="released")
    pipeline = IDLoRAPipeline.from_pretrained("smoke", sampling=set_up, **refining_weights)
    pipeline.model.to(dtype)
    made = pipeline.sample([a_request(1)])
    assert made.video.latents.dtype == made.audio.latents.dtype == torch.float32
    assert torch.isfinite(made.video.latents).all()


@pytest.mark.parametrize("make", [IDLoRA, IDLoRAPipeline.from_pretrained])
def test_stages_without_their_weights_are_refused_before_anything_is_loaded(make, refining_weights):
    two, given = with_stages("two_stage", SMOKE), {name: str(path) for name, path in refining_weights.items()}
    cases = {
        r"sampling.then\[0\].upscale is 2, which needs weights: set upsampler": {},
        r"sampling.then\[0\].distilled_scale is 0.8, which needs weights: set distilled_lora": {
            "upsampler": given["upsampler"]
        },
    }
    for message, options in cases.items():
        with pytest.raises(ValueError, match=message):
            make(base="smoke", sampling=two, **options)
    with pytest.raises(ValueError, match="and the nano world has no upsampler; leave it 1"):
        make(base="nano", sampling=with_stages("two_stage", default_sampling("nano")))
    with pytest.raises(ValueError, match="the nano world has no upsampler; leave upsampler out"):
        make(base="nano", sampling=default_sampling("nano"), upsampler=given["upsampler"])


def test_a_pipeline_cannot_be_given_stages_that_it_has_no_weights_for(one_stage):
    with pytest.raises(ValueError, match="needs weights: set upsampler"):
        replace(one_stage, sampling=with_stages("two_stage", SMOKE))


@pytest.mark.parametrize("name", LISTS)
def test_the_overlay_is_the_ready_made_list(name):
    from jsonargparse import ArgumentParser

    from idlora_pl.generation.sampling import Sampling

    parser = ArgumentParser()
    parser.add_class_arguments(Sampling, "sampling")
    written = yaml.safe_load((ROOT / f"experiments/sampling/{name}.yaml").read_text())["model"]
    read = parser.instantiate_classes(parser.parse_object(written))
    assert Sampling(**vars(read.sampling)) == with_stages(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTS)
def test_predict_writes_clips_of_twice_the_size(name, refining_weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["idlora"])
    write_image(torch.randint(0, 256, (3, 100, 140), dtype=torch.uint8), Path("face.png"))
    write_audio(0.1 * torch.randn(1, 16000), Path("voice.wav"), 16000)
    entry = {"prompt": PROMPT, "first_frame_path": "face.png", "reference_path": "voice.wav", "output_name": "made"}
    Path("prompts.json").write_text(json.dumps([entry]))
    configs = ["-c", str(ROOT / "experiments/smoke.yaml"), "-c", str(ROOT / f"experiments/sampling/{name}.yaml")]
    weights = [f"--model.{option}={path}" for option, path in refining_weights.items()]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.callbacks=[]", "--model.sampling.steps=2"]
    more = ["--model.use_adapter=false", "--data.prompts=prompts.json", "--run=run"]
    main(["predict", *configs, *weights, *quiet, *more])
    clip = read_clip("run/clips/made.mp4")
    assert clip.frames.shape == (17, 3, 128, 128)
    saved = yaml.safe_load(Path("run/predict.yaml").read_text())["model"]
    assert saved["sampling"]["then"][0]["upscale"] == 2
    assert saved["distilled_lora"] == str(refining_weights["distilled_lora"])
