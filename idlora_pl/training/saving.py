"""What a run writes: checkpoints every so many steps and minutes, before validations and at the end; and clips."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from idlora_pl.benchmark.items import Item
from idlora_pl.files import replacing
from idlora_pl.media.clip import Clip, MediaError
from idlora_pl.media.sound import UnusableSoundError
from idlora_pl.media.writing import write_clip
from idlora_pl.results.scores_file import read_lines

FOLDER, BEST = "checkpoints", "best.ckpt"
MONITOR = "val/loss"
"""The lower it is, the better."""


class LocalCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when it is whole.

    Lightning's own way holds all of it in memory once more and goes through the folder for temporary files.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint to a file on disk."""
        with replacing(path) as partial:
            torch.save(checkpoint, partial)


class SaveCheckpoints(Checkpoint):
    """Write `checkpoints/step-<step>.ckpt` into the run's folder, and `best.ckpt` beside the adapter.

    A checkpoint holds the adapter, its optimiser and the place in training, and nothing of the frozen base.

    Args:
        every_n_steps: Optimiser steps from one checkpoint to the next; 0 counts no steps.
        every_n_minutes: Minutes after which there is one at the next step; 0 measures no time.
        keep: How many of the newest stay. The one that a resumed run started from stays, too, so that it can be
            started again, and `best.ckpt`, that of the lowest `val/loss` where there is a validation.

    Raises:
        ValueError: If a number is too small.
    """

    def __init__(self, every_n_steps: int = 200, every_n_minutes: float = 10.0, keep: int = 1) -> None:
        for name, value, least in (
            ("every_n_steps", every_n_steps, 0),
            ("every_n_minutes", every_n_minutes, 0),
            ("keep", keep, 1),
        ):
            if not value >= least:
                raise ValueError(f"SaveCheckpoints.{name} must be at least {least}; got {value}")
        self.every_n_steps, self.every_n_minutes, self.keep = every_n_steps, every_n_minutes, keep
        self.newest: Path | None = None
        self._names: list[str] = []
        self._origin: str | None = None
        self._best: float | None = None
        self._step, self._saved, self._time, self._is_stopping = 0, -1, 0.0, False

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Count from where the run starts; a checkpoint that goes on in another folder leaves the old ones alone."""
        self._step = self._saved = trainer.global_step
        self._time, self._is_stopping = time.monotonic(), False
        run = run_folder(trainer)
        self._names = [name for name in self._names if (run / FOLDER / name).is_file()]
        self._origin = self._names[-1] if self._names else None
        self._best = self._best if (run / BEST).is_file() else None

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        """Save after an optimiser step at which a checkpoint is due; never amid accumulated batches.

        Lightning calls this after the hooks of all other callbacks. A stop that one of them asks for, as
        `trainer.max_time` does, waits for the step; and its checkpoint is of this place in the epoch, which Lightning
        takes for over once it stops.
        """
        step = trainer.global_step
        self._is_stopping |= trainer.should_stop
        trainer.should_stop = self._is_stopping and step != self._step
        if step == self._step:
            return
        self._step = step
        minutes = (time.monotonic() - self._time) / 60
        late = 0 < self.every_n_minutes <= minutes
        due = self.every_n_steps and step % self.every_n_steps == 0
        # the clock of one process decides for all, or they would wait for each other
        if due or trainer.should_stop or step == trainer.max_steps or trainer.strategy.broadcast(late):
            self.save(trainer)

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Save before a validation, which may take long."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.save(trainer)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Keep the checkpoint of the lowest loss."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or MONITOR not in trainer.callback_metrics:
            return
        loss = float(trainer.callback_metrics[MONITOR])
        if self.newest is None or not (self._best is None or loss < self._best):
            return
        self._best = loss
        if trainer.is_global_zero:
            with replacing(run_folder(trainer) / BEST) as partial:
                _link(self.newest, partial)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Save the end of the run."""
        self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Write a checkpoint of this step, if there is none, and take away those that are too many."""
        step = trainer.global_step
        if step in (0, self._saved) or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        path = run_folder(trainer) / FOLDER / f"step-{step:06d}.ckpt"
        self._names = [*(name for name in self._names if name != path.name), path.name]
        kept = {self._origin, *self._names[-self.keep :]}
        surplus = [name for name in self._names if name not in kept]
        self._names = [name for name in self._names if name in kept]
        trainer.save_checkpoint(path, weights_only=False)
        self.newest, self._saved, self._time = path, step, time.monotonic()
        if trainer.is_global_zero:
            for name in surplus:
                path.with_name(name).unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        """Return which checkpoints are this run's, and the loss of the best."""
        return {"names": self._names, "best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._names, self._best = list(state_dict["names"]), state_dict["best"]


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


Made = Sequence[tuple[Item, Clip]]
"""Items of a prompt file with what was generated from them."""


def run_folder(trainer: L.Trainer) -> Path:
    """Return the folder in which a run keeps everything it writes."""
    return Path(trainer.default_root_dir)


def write_made(made: Made, folder: Path, scale: int) -> list[str]:
    """Write generated clips as `<output_name>.mp4`, labelled as AI-generated.

    One that cannot be written does not keep the others from it.

    Returns:
        A sentence for every clip whose sound is not made of numbers, and which was therefore not written.

    Raises:
        MediaError: Files cannot be written, as on a full disk; all others of `made` were tried before.
    """
    unusable, failed = [], []
    for item, clip in made:
        path = folder / f"{item.id}.mp4"
        try:
            write_clip(clip, path, scale=scale, metadata={"prompt": item.prompt, "seed": str(item.seed)})
        except UnusableSoundError as error:
            unusable.append(str(error))
        except (ValueError, OSError) as error:
            failed.append(str(error) if str(path) in str(error) else f"{path} cannot be written ({error})")
    if failed:
        raise MediaError(f"{len(failed)} of {len(made)} clips were not written: {'; '.join([*failed, *unusable])}")
    return unusable


def refuse_made(folder: Path, names: Sequence[str], scores: Path) -> None:
    """Raise ValueError when clips would be replaced, or others would stand beside the scores of earlier ones.

    Args:
        folder: Where the clips go.
        names: Of their files.
        scores: A scores.jsonl, which need not exist.
    """
    paths = [folder / name for name in names]
    fix = "give --run another folder, or remove the clips and their scores"
    if made := [path for path in paths if path.exists()]:
        more = f" and {len(made) - 1} more of {len(paths)} clips" if len(made) > 1 else ""
        raise ValueError(f"{made[0]}{more} of an earlier command would be replaced; {fix}")
    if not scores.is_file():
        return
    noted = [row.notes["clip"] for row in read_lines(scores) if "clip" in row.notes]
    scored = {(scores.parent / clip).resolve() for clip in noted}
    if stale := [path for path in paths if path.resolve() in scored]:
        raise ValueError(f"{scores} has scores of an earlier clip {stale[0]}, which is gone; {fix}")
