"""The resolved configuration of a command, as a file in its run's folder."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.callbacks import Callback

from idlora_pl.files import replacing


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
