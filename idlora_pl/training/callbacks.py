"""Callbacks: write the clips that are generated, score them, keep the adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import BasePredictionWriter, Callback
from lightning.pytorch.loggers import WandbLogger

from idlora_pl.data.prompts import read_prompts
from idlora_pl.ltx2.adapter_file import check_style
from idlora_pl.ltx2.adapter_format import AdapterStyle
from idlora_pl.ltx2.lora import attached_lora, save_adapter
from idlora_pl.media import Clip, write_clip
from idlora_pl.metrics.suite import ClipScorer
from idlora_pl.report import ScoreRow, append_scores
from idlora_pl.scoring import score_clip
from idlora_pl.training.module import IDLoRA
from idlora_pl.training.run_facts import run_facts

Made = Sequence[tuple[dict[str, Any], Clip]]


def run_folder(trainer: L.Trainer) -> Path:
    """Return the folder in which a run keeps everything it writes."""
    return Path(trainer.default_root_dir)


class SaveAdapter(Callback):
    """Write `adapter.safetensors` into the run's folder, every so many steps and at the end.

    Args:
        every_n_steps: 0 writes only at the end; a later file replaces the earlier one.
        style: Whose names the tensors get: "comfyui" (and the authors), or "diffusers", which also holds an alpha
            that is not the rank times a power of two.
    """

    def __init__(self, every_n_steps: int = 200, style: AdapterStyle = "comfyui") -> None:
        self.every_n_steps, self.style = every_n_steps, style

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse an alpha that the style cannot hold before anything is trained."""
        assert isinstance(pl_module, IDLoRA)
        lora = attached_lora(pl_module.model)
        if stage == "fit" and lora is not None:
            check_style(lora, self.style)

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
            path = run_folder(trainer) / "adapter.safetensors"
            save_adapter(module.model, path, run_facts(trainer, module), style=self.style)


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


class ScoreClips(Callback):
    """Score every clip that is generated and append one row a clip to `scores.jsonl`.

    Args:
        scorer: The metrics.
        row: Name of the table's row that the clips belong to.
        scores: File to append to; a relative path is inside the run's folder.
        clips: Folder of the clips as it is written in the rows, relative to the scores' folder.
    """

    def __init__(
        self, scorer: ClipScorer, row: str = "generated", scores: str = "scores.jsonl", clips: str = "clips"
    ) -> None:
        self.scorer, self.row, self.scores, self.clips = scorer, row, scores, clips
        self._tested: list[ScoreRow] = []

    def on_predict_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *_: object) -> None:
        """Score the clips of one batch of `idlora predict`."""
        self.append(trainer, outputs, self.row, self.clips)

    def on_test_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *_: object) -> None:
        """Score the clips of one batch of `idlora test`."""
        self._tested += self.append(trainer, outputs["made"], self.row, self.clips)

    def on_test_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Log the means of the test, each with the number of clips behind it."""
        module.log_dict(means(self._tested, "test"))
        self._tested = []

    def append(self, trainer: L.Trainer, made: Made, row: str, clips: str) -> list[ScoreRow]:
        """Score clips and append their rows."""
        rows = [
            score_clip(self.scorer, entry, clip, row, f"{clips}/{entry['output_name']}.mp4") for entry, clip in made
        ]
        append_scores(run_folder(trainer) / self.scores, rows)
        return rows


class SampleClips(Callback):
    """Generate the same few clips at every validation, write them as mp4, log them, and have them scored.

    Scores go through the run's `ScoreClips`, if there is one: rows `step-000200` in its file, and means as
    `val/speaker_similarity` and so on, with the number of clips behind them as `val/<metric>/n_scored`.

    Args:
        prompts: Prompt file; see `idlora_pl.data.prompts`.
        n_clips: Only the first so many entries.
        scale: Enlarge small frames pixel by pixel.
    """

    def __init__(self, prompts: str, n_clips: int = 4, scale: int = 1) -> None:
        self.prompts, self.n_clips, self.scale = prompts, n_clips, scale
        self._entries: list[dict[str, Any]] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Read the prompt file before anything is trained."""
        if stage == "fit":
            assert isinstance(pl_module, IDLoRA)
            self._entries = read_prompts(self.prompts, seed=pl_module.sampling.seed)[: self.n_clips]

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Generate, write, log and score."""
        assert isinstance(module, IDLoRA)
        if trainer.sanity_checking or not self._entries or not trainer.is_global_zero:
            return
        training = module.model.training
        module.model.eval()
        made = module.predict_step(self._entries, 0)
        module.model.train(training)
        folder = f"samples/step-{trainer.global_step:06d}"
        paths = write_made(made, run_folder(trainer) / folder, self.scale)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_video("samples", [str(path) for path in paths], step=trainer.global_step)
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        for scorer in (callback for callback in callbacks if isinstance(callback, ScoreClips)):
            rows = scorer.append(trainer, made, Path(folder).name, folder)
            for logger in trainer.loggers:
                logger.log_metrics(means(rows, "val"), step=trainer.global_step)


def means(rows: Sequence[ScoreRow], stage: str) -> dict[str, float]:
    """Average scores over the clips that have one; `<stage>/<metric>/n_scored` says how many that are."""
    logged: dict[str, float] = {}
    for name in rows[0].scores:
        values = [value for row in rows if (value := row.scores[name]) is not None]
        logged[f"{stage}/{name}/n_scored"] = float(len(values))
        if values:
            logged[f"{stage}/{name}"] = sum(values) / len(values)
    return logged


def write_made(made: Made, folder: Path, scale: int) -> list[Path]:
    """Write generated clips as `<output_name>.mp4`, labelled as AI-generated; return their paths."""
    paths = []
    for entry, clip in made:
        paths.append(folder / f"{entry['output_name']}.mp4")
        write_clip(clip, paths[-1], scale=scale, metadata={"prompt": entry["prompt"], "seed": str(entry["seed"])})
    return paths
