"""Callbacks: write the clips that are generated, score them, keep the adapter."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import BasePredictionWriter, Callback

import idlora_pl
from idlora_pl.ltx2.lora import save_adapter
from idlora_pl.media import Clip, read_audio, write_clip
from idlora_pl.metrics.clip_mean import Expected
from idlora_pl.metrics.suite import ClipScorer
from idlora_pl.prompt import split_prompt
from idlora_pl.report import ScoreRow, append_scores
from idlora_pl.training.module import IDLoRA

Made = Sequence[tuple[dict[str, Any], Clip]]


def run_folder(trainer: L.Trainer) -> Path:
    """Return the folder in which a run keeps everything it writes."""
    return Path(trainer.default_root_dir)


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
            facts = {"steps": str(trainer.global_step), "seed": str(module.seed), "ai_generated_output": "label required"}
            versions = {"idlora_pl": idlora_pl.__version__, "torch": torch.__version__, "python": platform.python_version()}
            save_adapter(
                module.model,
                run_folder(trainer) / "adapter.safetensors",
                module.in_context.to_metadata() | facts | {f"version.{name}": value for name, value in versions.items()},
            )


class WriteClips(BasePredictionWriter):
    """Write what `idlora predict` generates as mp4 files with sound, labelled as AI-generated.

    Args:
        folder: Where to; a relative path is inside the run's folder.
        scale: Enlarge small frames pixel by pixel.
    """

    def __init__(self, folder: str = "clips", scale: int = 1) -> None:
        super().__init__(write_interval="batch")
        self.folder, self.scale = folder, scale

    def write_on_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, prediction: Made, *_: object
    ) -> None:
        """Write the clips of one batch."""
        for entry, clip in prediction:
            write_clip(
                clip,
                run_folder(trainer) / self.folder / f"{entry['output_name']}.mp4",
                scale=self.scale,
                metadata={"prompt": entry["prompt"], "seed": str(entry["seed"])},
            )


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

    def on_predict_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Made, *_: object
    ) -> None:
        """Score the clips of one batch."""
        path = run_folder(trainer) / self.scores
        append_scores(path, [self.score(entry, clip, f"{self.clips}/{entry['output_name']}.mp4") for entry, clip in outputs])

    def score(self, entry: dict[str, Any], clip: Clip, file: str) -> ScoreRow:
        """Score one clip against its prompt and the clip it is compared with."""
        found = self.scorer.score(clip, expected_of(entry))
        reasons = found.pop("reasons")
        return ScoreRow(
            key=entry["output_name"],
            row=self.row,
            speaker=str(entry["speaker"] or entry["output_name"]),
            seed=entry["seed"],
            scores=found,  # type: ignore[arg-type]
            reasons=reasons,  # type: ignore[arg-type]
            notes={"clip": file},
        )


def expected_of(entry: dict[str, Any]) -> Expected:
    """Read what a clip of an entry should sound like: its voice, its words, its environment."""
    sections = split_prompt(entry["prompt"])
    path = entry["compare_path"] or entry["reference_path"]
    voice, rate = (None, 16000) if path is None else read_audio(path)
    return Expected(voice, rate, sections.speech, entry["environment"] or "")
