"""Callbacks: write the clips that are generated, score them (see `clip_scores.py`), keep the adapter."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import BasePredictionWriter, Callback

from idlora_pl.data.datamodule import PairedClips
from idlora_pl.ltx2.adapter_file import check_style
from idlora_pl.ltx2.adapter_format import AdapterStyle
from idlora_pl.ltx2.lora import attached_lora, save_adapter
from idlora_pl.media import MediaError
from idlora_pl.training.clip_scores import SCORES, SampleClips, ScoreClips, means
from idlora_pl.training.made import Made, refuse_made, run_folder, write_made
from idlora_pl.training.module import IDLoRA
from idlora_pl.training.run_facts import run_facts
from idlora_pl.training.saving import SaveCheckpoints

__all__ = [
    "SampleClips",
    "SaveAdapter",
    "SaveCheckpoints",
    "ScoreClips",
    "WriteClips",
    "means",
    "run_folder",
    "write_made",
]


class SaveAdapter(Callback):
    """Write `adapter.safetensors` into the run's folder, every so many steps and at the end.

    Args:
        every_n_steps: 0 writes only at the end; a later file replaces the earlier one.
        style: Whose names the tensors get: "comfyui" (and the authors), or "diffusers", which also holds an alpha
            that is not the rank times a power of two.
    """

    def __init__(self, every_n_steps: int = 200, style: AdapterStyle = "comfyui") -> None:
        self.every_n_steps, self.style = every_n_steps, style
        self._start = self._step = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse an alpha that the style cannot hold before anything is trained."""
        assert isinstance(pl_module, IDLoRA)
        lora = attached_lora(pl_module.model)
        if stage == "fit" and lora is not None:
            check_style(lora, self.style)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Count from where the run starts."""
        self._start = self._step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        """Write after every so many optimiser steps."""
        step = trainer.global_step
        if step != self._step and self.every_n_steps and step % self.every_n_steps == 0:
            self.save(trainer, module)
        self._step = step

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write the final adapter; where no step was trained, the one that is there stays."""
        if trainer.global_step != self._start:
            self.save(trainer, module)

    def save(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write the adapter as it is now."""
        assert isinstance(module, IDLoRA)
        if trainer.is_global_zero:
            path = run_folder(trainer) / "adapter.safetensors"
            save_adapter(module.model, path, run_facts(trainer, module), style=self.style)


class WriteClips(BasePredictionWriter):
    """Write what `idlora predict` generates as mp4 files with sound, labelled as AI-generated.

    Clips that are there, and scores of them, are not replaced: the command is refused before it samples.

    Args:
        folder: Where to; a relative path is inside the run's folder.
        scale: Enlarge small frames pixel by pixel.
    """

    def __init__(self, folder: str = "clips", scale: int = 1) -> None:
        super().__init__(write_interval="batch")
        self.folder, self.scale = folder, scale
        self._unusable: list[str] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Raise ValueError when a clip of that name, or its score, is there already."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if stage in ("predict", "test") and isinstance(data, PairedClips):
            names = [f"{entry['output_name']}.mp4" for entry in data.entries]
            refuse_made(run_folder(trainer) / self.folder, names, run_folder(trainer) / SCORES)

    def write_on_batch_end(self, trainer: L.Trainer, module: L.LightningModule, prediction: Made, *_: object) -> None:
        """Write the clips of one batch of `idlora predict`."""
        self._unusable += write_made(prediction, run_folder(trainer) / self.folder, self.scale)

    def on_test_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *_: object) -> None:
        """Write the clips of one batch of `idlora test`."""
        self._unusable += write_made(outputs["made"], run_folder(trainer) / self.folder, self.scale)

    def on_predict_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Name the clips that could not be written, when all others are."""
        if self._unusable:
            raise MediaError(f"{len(self._unusable)} clips were not written: {'; '.join(self._unusable)}")

    def on_test_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Do the same after a test."""
        self.on_predict_end(trainer, module)
