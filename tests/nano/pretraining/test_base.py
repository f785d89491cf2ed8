"""Pre-training of the nano base: the loss falls, the held-out losses repeat, the muon step is orthogonal."""

import json

import lightning
import pytest
import torch
from safetensors import safe_open
from torch.utils.data import DataLoader, TensorDataset

from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.nano.codecs import ASSETS
from idlora_pl.nano.corpus import Corpus
from idlora_pl.nano.pretraining import base as pretrain
from idlora_pl.nano.pretraining.base import BasePretraining, orthogonalise


@pytest.fixture
def corpus() -> Corpus:
    return Corpus(torch.randn(4, 32, 9, 2, 2), torch.randn(4, 1, 34, 64), torch.randn(4, 8, 32))


@pytest.mark.slow
def test_a_few_steps_lower_the_loss_and_it_repeats(corpus):
    lightning.seed_everything(0)
    module = BasePretraining(steps=12)
    before = module.held_out(corpus)
    assert before == module.held_out(corpus)
    data = TensorDataset(corpus.video, corpus.audio[:, :, :33], corpus.text)
    trainer = lightning.Trainer(
        max_steps=24, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(data, 4))
    after = module.held_out(corpus)
    assert after["video@0.9"] < before["video@0.9"]
    assert after["audio@0.9"] < before["audio@0.9"]


def test_the_muon_update_has_equal_singular_values():
    update = orthogonalise(torch.randn(2, 12, 30))
    values = torch.linalg.svdvals(update)
    # five Newton-Schulz steps bring them near one, not to one
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_the_command_writes_a_base_that_can_be_loaded(tmp_path, monkeypatch):
    (tmp_path / "codecs.safetensors").write_bytes((ASSETS / "codecs.safetensors").read_bytes())
    monkeypatch.setattr(pretrain, "N_HELD_OUT", 4)
    pretrain.main(["--output", str(tmp_path), "--clips=4", "--steps=1", "--batch=2", "--keep-codecs"])
    LTX2.from_pretrained(tmp_path / "base.safetensors", "nano")
    with safe_open(tmp_path / "base.safetensors", "pt") as file:
        assert json.loads(file.metadata()["recipe"])["clips"] == "4"
    assert "| video@0.5 |" in (tmp_path / "BASE.md").read_text()
