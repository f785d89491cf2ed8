"""bf16-true rounds the frozen base and not the adapter; what is not supported is named."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import DoublePrecision, HalfPrecision, MixedPrecision

from idlora_pl.ltx2.adapter_file import read_adapter
from idlora_pl.training.callbacks import SaveAdapter
from idlora_pl.training.precision import SUPPORTED, BFloat16Base, checked_precision


def trained(make_module, make_trainer, make_data, base="nano", **settings):
    """Return a module, its adapter's start and its losses after two steps."""
    module, trainer = make_module(base), make_trainer(max_steps=2, **settings)
    losses = []
    step = module.training_step
    module.training_step = lambda *batch: losses.append(float((loss := step(*batch)).detach())) or loss
    trainer.fit(module, datamodule=make_data())
    return module, losses


def test_bf16_true_trains_a_float32_adapter_on_a_bfloat16_base(make_module, make_trainer, make_data, tmp_path):
    keep = ModelCheckpoint(tmp_path, filename="kept", every_n_train_steps=2)
    true, losses = trained(
        make_module, make_trainer, make_data, plugins=[BFloat16Base()], callbacks=[SaveAdapter(), keep]
    )
    _, mixed = trained(make_module, make_trainer, make_data, precision="bf16-mixed")
    _, full = trained(make_module, make_trainer, make_data)
    # bfloat16 has 8 bits: errors of a forward pass are below 1e-2
    assert losses == pytest.approx(mixed, rel=1e-2)
    assert losses == pytest.approx(full, rel=1e-2)
    assert losses != full
    dtypes = {weight.requires_grad: weight.dtype for weight in true.model.parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}
    checkpoint = torch.load(tmp_path / "kept.ckpt", weights_only=True)
    assert {weight.dtype for weight in checkpoint["state_dict"].values()} == {torch.float32}
    assert checkpoint["settings"]["trainer.precision"] == "bf16-true"
    assert all(weight.isfinite().all() for weight in read_adapter(tmp_path / "adapter.safetensors").state.values())
    make_trainer(max_steps=3, plugins=[BFloat16Base()]).fit(
        make_module(), datamodule=make_data(), ckpt_path=tmp_path / "kept.ckpt", weights_only=True
    )


def test_positions_and_noise_levels_stay_float32(make_module, make_trainer, make_data):
    module, seen = make_module(), []
    transformer = module.model.transformer
    transformer.register_forward_pre_hook(lambda _, args, given: seen.append(given), with_kwargs=True)
    make_trainer(max_steps=1, plugins=[BFloat16Base()]).fit(module, datamodule=make_data())
    for name in ("sigma", "timestep", "audio_timestep", "video_coords", "audio_coords"):
        assert seen[0][name].dtype == torch.float32
    assert seen[0]["hidden_states"].dtype == torch.bfloat16


@pytest.mark.parametrize(
    "asked", ["16-true", "16-mixed", "64-true", "16", "64", 16, 64, "transformer-engine", "transformer-engine-float16"]
)
def test_other_precisions_are_named(asked):
    with pytest.raises(ValueError, match=rf"trainer.precision {asked} is not supported.*{', '.join(SUPPORTED)}"):
        checked_precision(asked)


@pytest.mark.parametrize("asked", [None, 32, "32", "32-true", "bf16", "bf16-mixed", "bf16-true"])
def test_these_precisions_are_supported(asked):
    assert checked_precision(asked) in SUPPORTED


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (HalfPrecision("16-true"), "trainer.precision 16-true is not supported"),
        (HalfPrecision("bf16-true"), r"bf16-true would round the adapter, too; give the Trainer plugins="),
        (DoublePrecision(), "trainer.precision 64-true is not supported"),
        (MixedPrecision("16-mixed", "cpu"), "trainer.precision 16-mixed is not supported"),
    ],
)
def test_a_trainer_of_another_precision_is_refused(make_module, make_trainer, make_data, plugin, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(max_steps=1, plugins=[plugin]).fit(make_module(), datamodule=make_data())
