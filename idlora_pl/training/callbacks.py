"""Callbacks: write the clips that are generated, score them (see `clip_scores.py`), keep the adapter."""

from __future__ import annotations

import platform
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import BasePredictionWriter, Callback

import idlora_pl
from idlora_pl.ltx2.lora import save_adapter
from idlora_pl.training.clip_scores import SampleClips, ScoreClips, means
from idlora_pl.training.made import Made, run_folder, write_made
from idlora_pl.training.module import IDLoRA

__all__ = ["SampleClips", "SaveAdapter", "ScoreClips", "WriteClips", "means", "run_folder", "write_made"]


class SaveAdapter(Callback):
    """Write `adapter.safetensors` into the run's folder, every so many steps and at the end.

    Args:
        every_n_steps: 0 writes only at the end; a later file replaces the earlier one.
    """

    def __init__(self, every_n_steps: int = 200) -> None:
        self.every_n_steps = every_n_steps

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        """Write after every so many optimiser steps."""
        step = trainer.global_step
        if self.every_n_steps and step and step % self.every_n_steps == 0:
            self._save(trainer, module)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write the final adapter."""
        self._save(trainer, module)

    def _save(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, IDLoRA)
        if trainer.is_global_zero:
            save_adapter(module.model, run_folder(trainer) / "adapter.safetensors", self._metadata(trainer, module))

    @staticmethod
    def _metadata(trainer: L.Trainer, module: IDLoRA) -> dict[str, str]:
        """Return what the file tells about itself; `save_adapter` adds base model, rank and alpha."""
        versions = {
            "idlora_pl": idlora_pl.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        facts = {"steps": str(trainer.global_step), "seed": str(module.seed), "ai_generated_output": "label required"}
        return module.in_context.to_metadata() | facts | {f"version.{name}": value for name, value in versions.items()}


class WriteClips(BasePredictionWriter):
    """Write what `idlora predict` generates as mp4 files with sound, labelled as AI-generated.

    Args:
        folder: Where to; a relative path is inside the run's folder.
        scale: Enlarge small frames pixel by pixel.
    """

    def __init__(self, folder: str = "clips", scale: int = 1) -> None:
        super().__init__(write_interval="batch")
        self.folder, self.scale = folder, scale

    def write_on_batch_end(self, trainer: L.Trainer, module: L.LightningModule, prediction: Made, *_: object) -> None:
        """Write the clips of one batch of `idlora predict`."""
        write_made(prediction, run_folder(trainer) / self.folder, self.scale)

    def on_test_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *_: object) -> None:
        """Write the clips of one batch of `idlora test`."""
        write_made(outputs["made"], run_folder(trainer) / self.folder, self.scale)
