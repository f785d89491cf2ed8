"""The folder of a run: what counts as a result in it, which checkpoint of it is meant, where a resume writes.

And the resolved configuration of the command that wrote it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import lightning as L
import torch
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.environments import SLURMEnvironment

from idlora_pl.files import locked, replacing
from idlora_pl.training.saving import BEST, FOLDER

RESULTS = ("adapter.safetensors", "config.yaml", BEST)
"""What a training leaves after its first step, beside checkpoints, and must not lose to another one."""

_NONE = "give --ckpt_path a .ckpt that `idlora fit` wrote, or pass an adapter.safetensors with --model.adapter"


@dataclass(frozen=True)
class Start:
    """A checkpoint that a command starts from.

    Attributes:
        path: The file.
        step: Optimiser steps behind it.
    """

    path: Path
    step: int


def refuse_no_folder(run: str) -> None:
    """Raise ValueError when nothing can be written below `--run`."""
    if not run:
        raise ValueError("--run is empty; give a folder")
    try:
        os.stat(run)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise ValueError(f"--run {run:.80} can be no folder ({error.strerror}); give another one") from error
    place = Path(run).absolute()
    found = next(path for path in (place, *place.parents) if os.path.lexists(path))
    if not found.is_dir():
        raise ValueError(f"--run {run}: {found} is no folder; give --run a folder")
    if not os.access(found, os.W_OK | os.X_OK):
        raise ValueError(f"--run {run}: nothing can be written into {found}; give --run a folder of yours")


def start_of(asked: str | None, run: Path) -> Start | None:
    """Return the checkpoint that `--ckpt_path` means.

    Args:
        asked: A file; `last`, `best` or `hpc` (of SLURM) for one of the run's folder; None is none, or under SLURM
            the one that an earlier job of this run left.
        run: Folder of the run.

    Raises:
        ValueError: If there is no such checkpoint, or it cannot be read.
    """
    if asked is None:
        left = _newest(run, "hpc") if SLURMEnvironment.detect() else None
        return None if left is None else _read(left)
    if asked in ("last", "best", "hpc"):
        named = _newest(run, asked)
        if named is None:
            raise ValueError(
                f"--ckpt_path {asked}: {run} holds no such checkpoint; give --run the folder of a run that wrote one, "
                "or --ckpt_path a file"
            )
        return _read(named)
    path = Path(asked)
    if not asked or not path.is_file():
        kind = "is empty" if not asked else f"{asked} is a folder" if path.is_dir() else f"{asked} does not exist"
        raise ValueError(f"--ckpt_path {kind}; {_NONE}, or give `last` or `best` with --run")
    return _read(path)


def _newest(run: Path, name: str) -> Path | None:
    """Return the checkpoint of a run that a name stands for, the one that was written last."""
    patterns = {"last": (f"{FOLDER}/*.ckpt", f"resumed-*/{FOLDER}/*.ckpt"), "best": (BEST,)}
    paths = [path for pattern in patterns.get(name, ("hpc_ckpt_*.ckpt",)) for path in run.glob(pattern)]
    found = [path for path in paths if path.is_file() and not path.name.startswith(".")]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def _read(path: Path) -> Start:
    """Read the whole file, so that a damaged one is noticed before anything else."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        return Start(path.absolute(), int(found["global_step"]))
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{path}: the file of --ckpt_path is no checkpoint; give a .ckpt that `idlora fit` wrote, or pass an "
            "adapter.safetensors with --model.adapter"
        ) from error


def refuse_finished(run: Path, start: Start | None) -> None:
    """Raise ValueError when a training would replace an earlier one that it does not go on from."""
    checkpoints = [path for path in (run / FOLDER).glob("*.ckpt") if not path.name.startswith(".")]
    results = [*checkpoints, *(path for name in RESULTS if (path := run / name).exists())]
    if not results:
        return
    if start is None:
        rest = "or continue that run with --ckpt_path last" if checkpoints else "it has no checkpoint to continue from"
        raise ValueError(f"{run} holds an earlier run; give --run another folder, {rest}")
    if run.resolve() not in start.path.resolve().parents:
        raise ValueError(
            f"{run} holds an earlier run, and --ckpt_path {start.path} is not of it; give --run the folder of the "
            "checkpoint's run, or a new one"
        )


@contextmanager
def held(run: Path, start: Start | None) -> Iterator[None]:
    """Keep other trainings out of the folder of a run, on every machine whose file system knows flock.

    Raises:
        ValueError: If another one writes into it, or has written a result since this one was prepared.
    """
    with ExitStack() as lock:
        try:
            lock.enter_context(locked(run / ".training.lock", wait=False))
        except BlockingIOError as error:
            fix = "give --run another folder, or wait for its end"
            raise ValueError(f"another training writes into {run}; {fix}") from error
        except OSError:
            # a file system without locks shall not keep anybody from training
            pass
        refuse_finished(run, start)
        yield


def resume_folder(run: Path, step: int) -> Path:
    """Return a folder that does not exist yet for what a resume has for itself.

    Example:
        >>> resume_folder(Path("runs/new"), 200)
        PosixPath('runs/new/resumed-200')
    """
    number, folder = 1, run / f"resumed-{step}"
    while folder.exists():
        number += 1
        folder = run / f"resumed-{step}-{number}"
    return folder


class SaveConfig(Callback):
    """Write the configuration of a run when it has something to show for it.

    A command that is refused, or that fails before its first step or clip, leaves the file of an earlier one alone.

    Args:
        parser: Of the command.
        config: What it was called with.
        path: Where to.
    """

    def __init__(self, parser: ArgumentParser, config: Namespace, path: Path) -> None:
        self.path = path
        self._parser, self._config, self._start, self._saved = parser, config, 0, False

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Remember where the run starts."""
        self._start = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        """Write after the first optimiser step of a training."""
        if trainer.global_step > self._start:
            self._save(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        """Write after the first batch of `idlora validate`."""
        if trainer.state.fn == "validate":
            self._save(trainer)

    def on_test_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        """Write after the first batch of `idlora test`."""
        self._save(trainer)

    def on_predict_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        """Write after the first batch of `idlora predict`."""
        self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        if self._saved or trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
            return
        with replacing(self.path) as partial:
            self._parser.save(self._config, partial, skip_none=False, overwrite=True, multifile=False)
        self._saved = True
