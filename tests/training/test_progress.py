"""The progress bar of a training counts optimiser steps of all steps, over epochs and after a resume."""

import io
import re

import lightning as L
import pytest
import rich
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel

from idlora_pl.training.progress import StepProgressBar

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*does not have many workers.*")


class Model(BoringModel):
    """Logs as `IDLoRA` does."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)["loss"]
        self.log_dict({"loss": loss, "loss/video": loss}, prog_bar=True)
        return loss


@pytest.fixture
def screen():
    """What a terminal of 80 columns is sent."""
    yield io.StringIO()
    rich.reconfigure()


def fit(screen, tmp_path, ckpt_path=None, *, force_terminal=True, **limits):
    bar = StepProgressBar(console_kwargs={"file": screen, "force_terminal": force_terminal, "width": 80})
    keeper = ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1, filename="{step}")
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_model_summary=False, limit_train_batches=4, limit_val_batches=2,
        num_sanity_val_steps=0, callbacks=[bar, keeper], **limits,
    )  # fmt: skip
    trainer.fit(Model(), ckpt_path=ckpt_path)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", screen.getvalue().replace("\r", "\n"))


def steps(text):
    return [tuple(map(int, found)) for found in re.findall(r"Training +[^ ]+ (\d+)/(\d+)", text.replace("\n", ""))]


@pytest.mark.parametrize(
    "limits", [{"max_steps": 10}, {"max_epochs": 5, "accumulate_grad_batches": 2}, {"max_epochs": 9, "max_steps": 10}]
)
def test_it_shows_steps_of_all_steps_whatever_limits_the_run(screen, tmp_path, limits):
    text = fit(screen, tmp_path, **limits)
    found = steps(text)
    assert found[0] == (0, 10)
    assert found[-1] == (10, 10)
    assert found == sorted(found)
    assert "Epoch" not in text
    assert "left" in text
    assert re.search(r"loss: \d", text.replace("\n", ""))
    assert "loss/video" not in text


def test_a_resumed_run_goes_on_where_it_was(screen, tmp_path):
    fit(io.StringIO(), tmp_path, max_steps=6)
    found = steps(fit(screen, tmp_path, tmp_path / "step=6.ckpt", max_steps=10))
    assert found[0] == (6, 10)
    assert found[-1] == (10, 10)


def test_a_log_file_gets_one_line(screen, tmp_path):
    text = fit(screen, tmp_path, force_terminal=False, max_steps=10)
    assert [line for line in text.splitlines() if line.strip()] == [
        line for line in text.splitlines() if "10/10" in line
    ]
    assert text.count("10/10") == 1
