"""Callbacks: write the clips that are generated, score them with the code of `idlora score`, keep the adapter.

An adapter tells of the training run that wrote it.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning as L
import torch.distributed as dist
from lightning.pytorch.callbacks import BasePredictionWriter, Callback
from lightning.pytorch.loggers import WandbLogger

from idlora_pl.benchmark.items import Item, read_prompts, refuse_unusable
from idlora_pl.data.datamodule import PairedClips
from idlora_pl.distributed import OwnShare
from idlora_pl.evaluation.plan import origin_of, with_versions
from idlora_pl.evaluation.rows import notes_of, score_clip
from idlora_pl.ltx2.adapter_file import check_style
from idlora_pl.ltx2.adapter_format import AdapterStyle
from idlora_pl.ltx2.lora import attached_lora, save_adapter
from idlora_pl.media.clip import MediaError
from idlora_pl.report.build import clip_values
from idlora_pl.results.row import ScoreRow
from idlora_pl.results.scores_file import metric_names, replace_scores
from idlora_pl.scorers.loading import Scorer, load_scorers
from idlora_pl.scorers.scores import NEAR_ZERO
from idlora_pl.scorers.weights import WEIGHTS
from idlora_pl.training.module import IDLoRA
from idlora_pl.training.run_folder import SaveConfig
from idlora_pl.training.saving import Made, SaveCheckpoints, refuse_made, run_folder, write_made

# what configurations name in this module; SaveCheckpoints is defined beside what reads its files
__all__ = ["SampleClips", "SaveAdapter", "SaveCheckpoints", "ScoreClips", "WriteClips"]


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
            names = [f"{item.id}.mp4" for item in data.items]
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


SCORES = "scores.jsonl"
"""File of a run's scores, in its folder."""


class ScoreClips(Callback):
    """Score every clip that is generated and append its lines to `scores.jsonl`.

    Each rank scores the clips that it generated; means are over the clips of all ranks.

    Args:
        scorers: Names of scorers as in `idlora score`, such as "spk_sim,wer", "available" or "nano".
        row: Name of the table's row that the clips belong to.
        scores: File to append to; a relative path is inside the run's folder.
        clips: Folder of the clips as it is written in the rows, relative to the scores' folder.
        weights: Folder of their weights; None takes the one of the user.
        verified: File of proofs that `idlora doctor` wrote; None takes the one of the user.
    """

    def __init__(
        self,
        scorers: str,
        row: str = "generated",
        scores: str = SCORES,
        clips: str = "clips",
        weights: str | None = None,
        verified: str | None = None,
    ) -> None:
        self.row, self.scores, self.clips = row, scores, clips
        self.names, self.weights, self.verified = scorers, weights, verified
        self._scorers: tuple[Scorer, ...] = ()
        self._tested: list[ScoreRow] = []
        self._origin: dict[str, str] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Build the scorers before anything is trained or generated; one without weights refuses here."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if stage in ("predict", "test") and isinstance(data, PairedClips) and data.prompts is not None:
            self._origin = origin_of(read_prompts(data.prompts), data.prompts)
        if not self._scorers:
            self._scorers = with_versions(load_scorers(self.names, self.weights or WEIGHTS, self.verified))

    def on_predict_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *_: object) -> None:
        """Score the clips of one batch of `idlora predict`."""
        self.append(trainer, outputs, self.row, self.clips, self._origin)

    def on_test_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *_: object) -> None:
        """Score the clips of one batch of `idlora test`."""
        self._tested += self.append(trainer, outputs["made"], self.row, self.clips, self._origin)

    def on_test_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Log the means of the test, each with the number of clips behind it."""
        module.log_dict(means(of_all_ranks(self._tested), "test"), sync_dist=True)
        self._tested = []

    def append(self, trainer: L.Trainer, made: Made, row: str, clips: str, origin: Mapping[str, str]) -> list[ScoreRow]:
        """Score clips and append their rows, which say where their items come from.

        Scores of the same clips from before are replaced: a run that goes on from a checkpoint validates again.
        """
        path = run_folder(trainer) / self.scores
        rows = []
        for item, clip in made:
            clip_path = f"{clips}/{item.id}.mp4"
            notes = notes_of(item, path.parent) | {"clip": clip_path, **origin}
            rows.append(score_clip(self._scorers, item, clip, row, notes=notes))
        replace_scores(path, rows)
        return rows


class SampleClips(Callback):
    """Generate the same few clips at every validation, write them as mp4, log them, and have them scored.

    Each rank generates its share. Scores go through the run's `ScoreClips`, if there is one: rows `step-000200` in
    its file, and means as `val/speaker_similarity` and so on, with counts as `means` gives them.

    Args:
        prompts: Prompt file or manifest; see `idlora_pl.benchmark.items`.
        n_clips: Only the first so many items.
        scale: Enlarge small frames pixel by pixel.
    """

    def __init__(self, prompts: str, n_clips: int = 4, scale: int = 1) -> None:
        self.prompts, self.n_clips, self.scale = prompts, n_clips, scale
        self._items: list[Item] = []
        self._origin: dict[str, str] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Read the prompt file before anything is trained."""
        if stage == "fit":
            assert isinstance(pl_module, IDLoRA)
            self._items = read_prompts(self.prompts, seed=pl_module.sampling.seed)[: self.n_clips]
            refuse_unusable(self._items)
            self._origin = origin_of(self._items, self.prompts)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Generate, write, log and score."""
        assert isinstance(module, IDLoRA)
        if trainer.sanity_checking or not self._items:
            return
        own = list(OwnShare(self._items))
        training = module.model.training
        module.model.eval()
        made = module.predict_step(own, 0) if own else []
        module.model.train(training)
        folder = f"samples/step-{trainer.global_step:06d}"
        for sentence in write_made(made, run_folder(trainer) / folder, self.scale):
            warnings.warn(sentence, stacklevel=2)
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        rows = [
            row
            for scorer in callbacks
            if isinstance(scorer, ScoreClips)
            for row in scorer.append(trainer, made, Path(folder).name, folder, self._origin)
        ]
        self._log(trainer, folder, of_all_ranks(rows))

    def _log(self, trainer: L.Trainer, folder: str, rows: Sequence[ScoreRow]) -> None:
        """Log the clips and the means of all ranks, once."""
        if not trainer.is_global_zero:
            return
        written = [run_folder(trainer) / folder / f"{item.id}.mp4" for item in self._items]
        paths = [str(path) for path in written if path.is_file()]
        step = max(trainer.global_step - 1, 0)  # Lightning counts from 0, also for the losses of this validation
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_video("samples", paths, step=step)
            if rows:
                logger.log_metrics(means(rows, "val"), step=step)


def of_all_ranks(rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    """Return the rows of all ranks, on every rank; waits for them."""
    if not (dist.is_available() and dist.is_initialized()):
        return list(rows)
    parts: list[list[ScoreRow] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, list(rows))
    return [row for part in parts if part is not None for row in part]


def means(rows: Sequence[ScoreRow], stage: str) -> dict[str, float]:
    """Average scores over the clips that have one, as a table does, and count the others.

    `<stage>/<metric>/n_scored` of `n_total` clips have the score, `n_<reason>` generations have none for this reason.
    Scores that are better near zero, such as lags, are averaged as distances from zero.
    """
    logged: dict[str, float] = {}
    for name in metric_names(rows):
        found = [row for row in rows if name in row.scores]
        clips = clip_values(found, name, unsigned=name in NEAR_ZERO)
        values = [value for value in clips.values() if value is not None]
        logged |= {f"{stage}/{name}/n_scored": float(len(values)), f"{stage}/{name}/n_total": float(len(clips))}
        reasons = Counter(row.reasons[name] for row in found if row.scores[name] is None)
        for reason, count in sorted(reasons.items()):
            logged[f"{stage}/{name}/n_{reason}"] = float(count)
        if values:
            logged[f"{stage}/{name}"] = fmean(values)
    return logged


def run_facts(trainer: L.Trainer, module: IDLoRA) -> dict[str, str]:
    """Header entries of an adapter: the recipe, the run and what the training data say about consent.

    `config_sha256` is the checksum of the configuration that the run wrote, and missing when it has none. `consent` is
    what the shard set was written with (`data_tools.write_shards --consent`), and missing when it says nothing.
    """
    folder = Path(trainer.default_root_dir)
    facts = {"run": folder.resolve().name, "steps": str(trainer.global_step), "seed": str(module.seed)}
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    written = [callback.path for callback in callbacks if isinstance(callback, SaveConfig)]
    config = written[0] if written else folder / "config.yaml"
    if config.is_file():
        facts["config_sha256"] = hashlib.sha256(config.read_bytes()).hexdigest()
    data = getattr(trainer, "datamodule", None)
    if isinstance(data, PairedClips) and data.shards in data.indices:
        consent = data.indices[data.shards].settings.get("consent")
        facts |= {"consent": str(consent)} if consent else {}
    return module.in_context.to_metadata() | facts
