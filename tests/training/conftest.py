"""A small module of the nano world, and a trainer that says nothing."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lightning
import pytest

from idlora_pl.data.datamodule import PairedClips
from idlora_pl.data.samples import PairBatch
from idlora_pl.generation.sampling import default_sampling
from idlora_pl.ltx2.adapter_format import LoRA
from idlora_pl.training.module import IDLoRA
from idlora_pl.training.optimizer import AdamW


@pytest.fixture
def make_module() -> Callable[..., IDLoRA]:
    """Build an `IDLoRA` of rank 2 on the nano base (or another); keywords change its settings."""

    def make(base: str = "nano", **settings) -> IDLoRA:
        usual = {
            "lora": LoRA(rank=2),
            "optimizer": AdamW(learning_rate=1e-2, state_bits="32"),
            "sampling": replace(default_sampling(base), steps=2),
            "gradient_checkpointing": False,
        }
        return IDLoRA(base=base, **usual | settings)

    return make


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., lightning.Trainer]:
    """Build a silent trainer on the CPU whose run folder is `tmp_path`."""

    def make(**settings) -> lightning.Trainer:
        warnings.filterwarnings("ignore", module="lightning")
        usual = {"logger": False, "max_epochs": -1, "enable_checkpointing": "callbacks" in settings}
        return lightning.Trainer(
            accelerator="cpu",
            default_root_dir=tmp_path,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **usual | settings,
        )

    return make


@pytest.fixture
def make_data(nano_data: Path) -> Callable[..., PairedClips]:
    """Open the tiny data set in batches of four: three batches an epoch."""

    def make(**settings) -> PairedClips:
        usual = {"shards": str(nano_data / "train"), "batch_size": 4, "num_workers": 0, "shuffle_buffer": 4}
        return PairedClips(**usual | settings)

    return make


@pytest.fixture
def batch(make_data: Callable[..., PairedClips]) -> PairBatch:
    """The first batch of the tiny data set."""
    return next(iter(make_data().train_dataloader()))
