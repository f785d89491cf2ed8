"""`model.memory`: what it changes in a training, what it does not, and what a checkpoint tells of it."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from idlora_pl.ltx2.lora import lora_state_dict
from idlora_pl.ltx2.memory.frozen import FrozenLinear
from idlora_pl.ltx2.memory.levels import Memory
from idlora_pl.training.module import IDLoRA
from idlora_pl.training.precision import BFloat16Base


def trained(make_module, make_trainer, make_data, memory, *, n_steps=2, ckpt_path=None, **settings):
    """A nano module after some steps under memory settings."""
    module = make_module(gradient_checkpointing=True, memory=memory)
    trainer = make_trainer(max_steps=n_steps, **settings)
    trainer.fit(module, datamodule=make_data(), ckpt_path=ckpt_path, weights_only=None if ckpt_path is None else True)
    return module


def same_adapters(one, other):
    states = lora_state_dict(one.model), lora_state_dict(other.model)
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    ("memory", "plugins"),
    [
        pytest.param(Memory(swap_blocks=4), [BFloat16Base()], marks=pytest.mark.slow),
        (Memory(swap_blocks=3), []),
        pytest.param(Memory(checkpointing=0.5), [], marks=pytest.mark.slow),
    ],
)
def test_swapping_and_recomputing_change_no_number(make_module, make_trainer, make_data, memory, plugins):
    module = trained(make_module, make_trainer, make_data, memory, n_steps=1, plugins=plugins)
    still = trained(make_module, make_trainer, make_data, Memory(), n_steps=1, plugins=plugins)
    assert same_adapters(module, still)
    if not plugins:
        trainer = make_trainer(limit_val_batches=1)
        losses = [trainer.validate(each, make_data().train_dataloader(), verbose=False) for each in (module, still)]
        assert losses[0] == losses[1]


@pytest.mark.slow
def test_coded_weights_change_the_losses_a_little(make_module, make_trainer, make_data):
    losses = []
    for memory in (Memory(), Memory("int8"), Memory("nf4", swap_blocks=4)):
        module = make_module(memory=memory, gradient_checkpointing=True)
        losses += make_trainer(limit_val_batches=1).validate(module, make_data().train_dataloader(), verbose=False)
    base, int8, nf4 = (row["val/loss"] for row in losses)
    assert len({base, int8, nf4}) == 3
    assert int8 == pytest.approx(base, rel=1e-2)
    assert nf4 == pytest.approx(base, rel=2e-1)


def test_a_checkpoint_holds_the_adapter_and_tells_the_level(make_module, make_trainer, make_data, tmp_path, capsys):
    keep = ModelCheckpoint(tmp_path, filename="kept", every_n_train_steps=2)
    trained(make_module, make_trainer, make_data, Memory("nf4", swap_blocks=4), callbacks=[keep])
    checkpoint = torch.load(tmp_path / "kept.ckpt", weights_only=True)
    assert all(".lora_" in name for name in checkpoint["state_dict"])
    assert checkpoint["settings"]["model.memory.weights"] == "nf4"
    path = tmp_path / "kept.ckpt"
    resumed = trained(make_module, make_trainer, make_data, Memory("int8"), n_steps=3, ckpt_path=path)
    assert "model.memory.weights nf4 -> int8" in capsys.readouterr().err
    assert sum(isinstance(each, FrozenLinear) for each in resumed.modules()) == 28 * 4


def test_a_resumed_run_with_the_same_memory_is_the_whole_run(make_module, make_trainer, make_data, tmp_path):
    memory = Memory("nf4", swap_blocks=4)
    keep = ModelCheckpoint(tmp_path, filename="kept", every_n_train_steps=2, save_top_k=-1)
    whole = trained(make_module, make_trainer, make_data, memory, n_steps=3, callbacks=[keep])
    resumed = trained(make_module, make_trainer, make_data, memory, n_steps=3, ckpt_path=tmp_path / "kept.ckpt")
    assert same_adapters(resumed, whole)


@pytest.mark.parametrize("asked", [{"swap_blocks": 3}, {"checkpointing": 0.5}])
def test_what_needs_recomputing_is_refused_without_it_and_the_setting_that_helps_is_named(make_module, asked):
    with pytest.raises(ValueError, match=r"needs blocks that are computed again.* set model.gradient_checkpointing"):
        make_module(gradient_checkpointing=False, memory=Memory(**asked))
    assert make_module(gradient_checkpointing=True, memory=Memory(**asked)).memory == Memory(**asked)


def test_swapping_with_checkpointing_none_is_refused():
    with pytest.raises(ValueError, match="swap_blocks 3 needs blocks that are computed again"):
        Memory(swap_blocks=3, checkpointing="none")


def test_more_blocks_than_the_base_has_are_refused():
    with pytest.raises(ValueError, match="memory.swap_blocks must be at most 4"):
        IDLoRA(base="nano", memory=Memory(swap_blocks=5))
