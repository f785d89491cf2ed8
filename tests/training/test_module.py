"""IDLoRA: what is trained, on which sequence, with which loss, and what a checkpoint holds."""

import math
import shutil
from dataclasses import replace

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from idlora_pl.benchmark.items import Item
from idlora_pl.data.samples import PairBatch, PairSample
from idlora_pl.data.shards import write_shards
from idlora_pl.data.stream import open_shards
from idlora_pl.generation.request import Request
from idlora_pl.ltx2.lora import lora_state_dict
from idlora_pl.media.clip import Clip
from idlora_pl.method.in_context import InContext
from idlora_pl.method.noise import Draws
from idlora_pl.method.tokens import TextFeatures
from idlora_pl.training.module import IDLoRA
from idlora_pl.training.noise import Noise, draw_noise, generator_at
from idlora_pl.training.objective import Objective, noisy_sequence
from tests.data.test_faults import spoil


class StopAfter(Callback):
    """Ends a run early, as a crash would, with the schedule of the whole run."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        trainer.should_stop = trainer.global_step >= self.n_steps


def adapter_of(module: IDLoRA) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in lora_state_dict(module.model).items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("base", ["nano", "smoke"])
def test_the_sequence_of_training_at_sigma_one_is_the_one_that_sampling_starts_from(make_module, nano_prompt, base):
    pipeline = (module := make_module(base)).pipeline
    set_up, codecs = pipeline.sampling, pipeline.codecs
    face = torch.randint(0, 256, (3, set_up.height, set_up.width), dtype=torch.uint8)
    request = Request(nano_prompt, face, 0.1 * torch.randn(1, 16000), 16000, seed=7)
    shape = codecs.video_latent_shape(set_up.n_frames, set_up.height, set_up.width)
    video = torch.randn(1, *shape)
    video[:, :, :1] = codecs.encode_video(face[None, None])
    n_video, n_audio = shape[1] * shape[2] * shape[3], codecs.n_audio_tokens(set_up.n_frames)
    width = module.model.preset.token_channels
    reference = codecs.encode_audio(request.voice[None], 16000)
    audio = torch.randn(1, reference.shape[1], n_audio, reference.shape[3])
    batch = PairBatch(video, audio, reference, pipeline.text.encode([nano_prompt]), [{}])
    drawn = Draws([7], "independent").stage((n_video, width[0]), (n_audio, width[1]))
    noise = Noise(torch.ones(1), *drawn, torch.tensor([True]))

    text = module.text.connect(batch.text)
    trained = noisy_sequence(module.in_context, module.model.geometry, batch, noise, text)
    sampled = pipeline.sequence([request])

    for one, other in ((trained.video, sampled.video), (trained.audio, sampled.audio)):
        assert one.n_reference == other.n_reference
        assert torch.equal(one.latents, other.latents)
        assert torch.equal(one.positions, other.positions)
        assert torch.equal(one.clean, other.clean)
    assert torch.equal(trained.text.video, sampled.text.video)
    assert torch.equal(trained.text.audio, sampled.text.audio)
    switches = ("video_sees_reference", "reference_sees_text", "hidden_text")
    assert all(getattr(trained, name) == getattr(sampled, name) for name in switches)


def test_the_loss_ignores_clean_tokens(make_module, batch):
    # the noise of a clean token enters nothing but the target of its loss
    module = make_module()
    text, noise = module.text.connect(batch.text), draw_noise(batch, 1.0, generator_at(0))
    other = noise.video.clone()
    other[:, :4] += 1
    with torch.no_grad():
        given = [module.losses(batch, replace(noise, video=video), text)["video"] for video in (noise.video, other)]
        free = replace(noise, first_frame=torch.zeros_like(noise.first_frame))
        noisy = [module.losses(batch, replace(free, video=video), text)["video"] for video in (noise.video, other)]
    assert given[0] == given[1]
    assert noisy[0] != noisy[1]


def test_training_moves_the_adapter_and_nothing_else(make_module, make_trainer, make_data):
    module = make_module()
    before = {name: weight.clone() for name, weight in module.model.state_dict().items()}
    make_trainer(max_steps=2).fit(module, datamodule=make_data())
    moved = {name for name, weight in module.model.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved
    assert all(".lora_" in name for name in moved)
    assert {name for name, weight in module.model.named_parameters() if weight.requires_grad} >= moved


def test_a_checkpoint_holds_the_adapter_and_loads_without_pickles(make_module, make_trainer, make_data, tmp_path):
    module = make_module()
    keep = ModelCheckpoint(tmp_path, filename="kept", every_n_train_steps=2)
    make_trainer(max_steps=2, callbacks=[keep]).fit(module, datamodule=make_data())
    checkpoint = torch.load(tmp_path / "kept.ckpt", weights_only=True)
    assert same(checkpoint["state_dict"], adapter_of(module))
    assert len(checkpoint["optimizer_states"][0]["state"]) == len(adapter_of(module))
    n_weights = sum(weight.numel() for weight in adapter_of(module).values())
    assert (tmp_path / "kept.ckpt").stat().st_size < 3 * 4 * n_weights + 500_000


@pytest.mark.parametrize("n_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_run_equals_an_uninterrupted_one(make_module, make_trainer, make_data, tmp_path, n_workers):
    whole, before, after = make_module(), make_module(), make_module()
    keep = ModelCheckpoint(tmp_path, filename="kept", every_n_train_steps=4)
    make_trainer(max_steps=6).fit(whole, datamodule=make_data(num_workers=n_workers))
    make_trainer(max_steps=6, callbacks=[keep, StopAfter(4)]).fit(before, datamodule=make_data(num_workers=n_workers))
    make_trainer(max_steps=6).fit(
        after, datamodule=make_data(num_workers=n_workers), ckpt_path=tmp_path / "kept.ckpt", weights_only=True
    )
    assert not same(adapter_of(before), adapter_of(whole))
    assert same(adapter_of(after), adapter_of(whole))


def test_clips_that_could_not_be_read_are_counted_in_the_log(make_module, make_trainer, make_data, nano_data, tmp_path):
    folder = tmp_path / "spoiled"
    shutil.copytree(nano_data / "train", folder)
    keys = open_shards(str(folder)).index.shards[0].keys
    spoil(folder, *keys[:2])
    trainer = make_trainer(max_epochs=1)
    data = make_data(shards=str(folder), on_fault="skip", batch_size=4)
    trainer.fit(make_module(), datamodule=data)
    assert trainer.callback_metrics["data/left_out"] == 2
    trainer = make_trainer(max_epochs=1)
    trainer.fit(make_module(), datamodule=make_data())
    assert "data/left_out" not in trainer.callback_metrics


def test_a_checkpoint_of_another_recipe_is_refused(make_module, make_trainer, make_data, tmp_path):
    keep = ModelCheckpoint(tmp_path, filename="kept", every_n_train_steps=1)
    make_trainer(max_steps=1, callbacks=[keep]).fit(make_module(), datamodule=make_data())
    other = make_module(in_context=InContext(placement="shared"))
    with pytest.raises(ValueError, match=r"trained with .*negative.*configured with .*shared.*config.yaml of the run"):
        make_trainer(max_steps=2).fit(other, datamodule=make_data(), ckpt_path=tmp_path / "kept.ckpt")


@pytest.mark.slow
def test_validation_losses_repeat(make_module, make_trainer, make_data, nano_data):
    module = make_module()
    data = make_data(val_shards=str(nano_data / "validation"))
    first, second = (make_trainer().validate(module, datamodule=data, verbose=False)[0] for _ in range(2))
    assert first == second
    per_level = [value for name, value in first.items() if "@" in name]
    assert len(per_level) == 10
    assert first["val/loss"] == pytest.approx(sum(per_level) / 5)


def test_gradient_checkpointing_changes_neither_loss_nor_gradient(make_module, batch):
    found = []
    for recompute in (False, True):
        module = make_module(gradient_checkpointing=recompute).train()
        losses = module.losses(batch, draw_noise(batch, 0.9, generator_at(0)), module.text.connect(batch.text))
        (losses["video"] + losses["audio"]).backward()
        found.append((losses, [weight.grad for weight in module.model.parameters() if weight.grad is not None]))
    (plain, plain_grads), (recomputed, recomputed_grads) = found
    assert plain == recomputed
    assert all(torch.equal(one, other) for one, other in zip(plain_grads, recomputed_grads, strict=True))


@pytest.mark.parametrize(("coin", "kinds"), [("sample", {1, 2}), ("batch", {1})])
def test_the_coin_of_a_training_step_is_that_of_the_objective(
    make_module, make_trainer, make_data, monkeypatch, coin, kinds
):
    module, coins = make_module(objective=Objective(first_frame_coin=coin), first_frame_p=0.5), []
    losses = module.losses

    def watched(batch, noise, *rest, **settings):
        coins.append(tuple(noise.first_frame.tolist()))
        return losses(batch, noise, *rest, **settings)

    monkeypatch.setattr(module, "losses", watched)
    make_trainer(max_steps=3).fit(module, datamodule=make_data(batch_size=3))
    assert {len(set(tossed)) for tossed in coins} == kinds
    assert len(set(coins)) > 1


def test_padding_of_a_shard_set_reaches_no_training_step(make_module, make_trainer, make_data, tmp_path):
    text = TextFeatures(torch.zeros(8, 32), torch.zeros(8, 32), torch.ones(8, dtype=torch.bool))
    samples = []
    for n_target, n_reference in ((33, 34), (31, 34), (33, 30), (31, 34)):
        audio, reference = torch.randn(1, 33, 64), torch.randn(1, 34, 64)
        audio[:, n_target:], reference[:, n_reference:] = torch.nan, torch.nan
        meta = {"key": f"c{len(samples)}", "target_tokens": n_target, "reference_tokens": n_reference}
        samples.append(PairSample(torch.randn(32, 9, 2, 2), audio, reference, text, meta))
    write_shards(samples, tmp_path / "padded", codecs="nano")
    logged = {}
    for padding_in_loss in (False, True):
        trainer = make_trainer(max_steps=1)
        module = make_module(objective=Objective(padding_in_loss=padding_in_loss))
        trainer.fit(module, datamodule=make_data(shards=str(tmp_path / "padded")))
        logged[padding_in_loss] = float(trainer.callback_metrics["loss"])
    assert logged[False] > 0
    assert math.isnan(logged[True])


def test_validation_measures_every_training_alike(make_module, make_trainer, make_data, nano_data):
    faithful = Objective("batch", padding_in_loss=True, target_precision="stored", noise_levels="stretched")
    data = make_data(val_shards=str(nano_data / "validation"))
    modules = make_module(), make_module(objective=faithful)
    first, second = (
        make_trainer(limit_val_batches=1).validate(module, datamodule=data, verbose=False)[0] for module in modules
    )
    assert first == second


def test_dropout_of_a_sample_gives_it_the_empty_prompt_and_no_voice(make_module, batch):
    module = make_module(text_dropout=1.0)
    empty = module.text.connect(module.text.encode([""]))
    text = module._text(batch, generator_at(0))
    assert torch.equal(text.video, empty.video.expand_as(text.video))
    noise = draw_noise(batch, 1.0, generator_at(0))
    dumb = replace(batch, reference=torch.randn_like(batch.reference))
    with torch.no_grad():
        silent = [module.losses(part, noise, text, with_reference=False)["audio"] for part in (batch, dumb)]
        voiced = [module.losses(part, noise, text)["audio"] for part in (batch, dumb)]
    assert silent[0] == silent[1]
    assert voiced[0] != voiced[1]


def test_the_prediction_is_one_clip_an_item(make_module, nano_prompt):
    items = [Item(f"item-{seed}", nano_prompt, seed) for seed in (1, 2)]
    made = make_module(use_adapter=False).predict_step(items, 0)
    assert [item for item, _ in made] == items
    assert all(isinstance(clip, Clip) for _, clip in made)


def test_a_base_without_an_adapter_cannot_be_trained(make_module, make_trainer, make_data):
    with pytest.raises(ValueError, match=r"use_adapter is false.*set it to true"):
        make_trainer(max_steps=1).fit(make_module(use_adapter=False), datamodule=make_data())


def test_a_probability_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"first_frame_p is a probability in \[0, 1\]; got 90"):
        IDLoRA(base="smoke", first_frame_p=90)
