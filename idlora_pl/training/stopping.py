"""SIGTERM and Ctrl-C: the step ends, what was trained is saved, and a sentence says where and how to go on."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

import lightning as L
from lightning.pytorch.callbacks import Callback

from idlora_pl.training.callbacks import SaveAdapter
from idlora_pl.training.saving import SaveCheckpoints, run_folder

_Kind = TypeVar("_Kind", bound=Callback)
_Handler = Callable[[int, FrameType | None], None]
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN_S = 0.5
"""A signal that comes again sooner is the same one, sent to a process and to its group."""


class Interrupted(SystemExit):
    """A signal ended the run; the exit status is the shell's, 128 and the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number).name


class StopOnSignal(Callback):
    """Let a signal end a training after the step that runs, with a checkpoint and the adapter; a second one at once.

    Sampling and scoring end at once: what they write is whole or not there.
    """

    def __init__(self) -> None:
        self._asked: int | None = None
        self._step, self._kept, self._since = 0, False, 0.0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Listen; Lightning puts the signals back when the run ends, however it does."""
        self._asked, self._step, self._kept = None, trainer.global_step, False
        if trainer.received_sigterm:
            raise Interrupted(signal.SIGTERM)
        _listen(self._ask)

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        """Save where one process was asked to stop, after an optimiser step."""
        if trainer.global_step != self._step:
            self._step = trainer.global_step
            self._keep_if_asked(trainer, module)

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        """End; the losses of the step before are logged by now."""
        self._end_if_kept()

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """End a training before its validation; make a signal end the other commands."""
        self._end_if_kept()
        if trainer.state.fn != "fit":
            _listen(_raise)

    def on_validation_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        """End amid the validation of a training."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._keep_if_asked(trainer, module)
            self._end_if_kept()

    def on_test_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Make a signal end the command."""
        _listen(_raise)

    def on_predict_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Make a signal end the command."""
        _listen(_raise)

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        """Say what ended the run, if a signal did, and from where a training can go on."""
        stopped = f"stopped by {exception.signal}" if isinstance(exception, Interrupted) else ""
        if trainer.state.fn == "fit":
            stopped += f" after step {trainer.global_step}" if stopped else ""
            saved = [callback.newest for callback in _of_kind(trainer, SaveCheckpoints) if callback.newest is not None]
            if saved:
                stopped = f"{stopped or 'the training ended early'}; go on with the same command and "
                stopped += f"--ckpt_path {shlex.quote(str(saved[0]))}"
            elif stopped:
                stopped += "; no checkpoint was written"
            if self._kept:
                stopped += f"; the adapter of this step is {run_folder(trainer) / 'adapter.safetensors'}"
        if stopped and trainer.is_global_zero:
            print(f"idlora: {stopped}", file=sys.stderr)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked is not None:
            if time.monotonic() - self._since >= AGAIN_S:
                _raise(number, frame)
            return
        self._asked, self._since = number, time.monotonic()
        name = signal.Signals(number).name
        # print is not for the middle of anything
        os.write(2, f"\nidlora: {name}: this step is finished and saved; once more ends at once\n".encode())

    def _keep_if_asked(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not trainer.strategy.reduce_boolean_decision(self._asked is not None, all=False):
            return
        self._asked, self._kept = self._asked or signal.SIGTERM, True
        for checkpoints in _of_kind(trainer, SaveCheckpoints):
            checkpoints.save(trainer)
        for adapter in _of_kind(trainer, SaveAdapter):
            adapter.save(trainer, module)

    def _end_if_kept(self) -> None:
        if self._kept and self._asked is not None:
            raise Interrupted(self._asked)


def _of_kind(trainer: L.Trainer, kind: type[_Kind]) -> list[_Kind]:
    return [callback for callback in trainer.callbacks if isinstance(callback, kind)]  # type: ignore[attr-defined]


def _listen(handler: _Handler) -> None:
    if threading.current_thread() is threading.main_thread():  # Python lets no other set one
        for number in _SIGNALS:
            signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)
