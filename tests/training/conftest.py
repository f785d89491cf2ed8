"""A small module of the nano world, and a trainer that says nothing."""

import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import lightning
import pytest
import torch

from idlora_pl.data.datamodule import PairedClips
from idlora_pl.data.samples import PairBatch
from idlora_pl.generation.sampling import default_sampling
from idlora_pl.ltx2.adapter_format import LoRA
from idlora_pl.nano.dataset import write_pairs
from idlora_pl.training.module import IDLoRA
from idlora_pl.training.optimizer import AdamW


def small_module(base: str = "nano", **settings) -> IDLoRA:
    """Build an `IDLoRA` of rank 2; keywords change its settings."""
    usual = {
        "lora": LoRA(rank=2),
        "optimizer": AdamW(learning_rate=1e-2, state_bits="32"),
        "sampling": replace(default_sampling(base), steps=2),
        "gradient_checkpointing": False,
    }
    return IDLoRA(base=base, **usual | settings)


@pytest.fixture(scope="session")
def kept_module() -> IDLoRA:
    """`small_module` of the nano base; tests must leave it as it is."""
    with torch.random.fork_rng():
        return small_module()


@pytest.fixture
def make_module(kept_module: IDLoRA) -> Callable[..., IDLoRA]:
    """Build `small_module` of the nano base or another, with other settings or as it is."""

    def make(base: str = "nano", **settings) -> IDLoRA:
        # a copy takes half the time
        return small_module(base, **settings) if settings or base != "nano" else deepcopy(kept_module)

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


@pytest.fixture(scope="session")
def few_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pairs of the nano world."""
    folder = tmp_path_factory.mktemp("few") / "train"
    write_pairs(folder, "train", 3)
    return folder


@pytest.fixture
def make_data(few_pairs: Path) -> Callable[..., PairedClips]:
    """Open `few_pairs` in batches of two: three batches an epoch."""

    def make(**settings) -> PairedClips:
        usual = {"shards": str(few_pairs), "batch_size": 2, "num_workers": 0, "shuffle_buffer": 2}
        return PairedClips(**usual | settings)

    return make


@pytest.fixture
def batch(make_data: Callable[..., PairedClips]) -> PairBatch:
    """The first batch of `few_pairs`."""
    return next(iter(make_data().train_dataloader()))
