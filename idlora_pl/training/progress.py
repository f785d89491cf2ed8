"""The progress of a training in steps, of all steps and not of an epoch: most runs are limited by steps."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import BatchesProcessedColumn, CustomBarColumn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from rich.progress import ProgressColumn, TextColumn, TimeRemainingColumn


class StepProgressBar(RichProgressBar):
    """Show the optimiser's steps of all steps, the time left and the loss.

    Without a terminal, one line is printed at the end.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the bar, at the step that the run goes on from."""
        super().on_train_start(trainer, pl_module)
        if self.progress is not None and self.is_enabled:
            total, done = trainer.estimated_stepping_batches, trainer.global_step
            self.train_progress_bar_id = self.progress.add_task("Training", total=total, completed=done)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the bar as it is: it counts over epochs."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Show the steps that are done."""
        self._update(self.train_progress_bar_id, trainer.global_step)
        self._update_metrics(trainer, pl_module)

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the loss alone; `metrics.csv` has its parts."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name == "loss"}

    def configure_columns(self, trainer: L.Trainer) -> list[ProgressColumn]:
        """Return what stands before the loss."""
        bar = CustomBarColumn(
            bar_width=24,
            complete_style=self.theme.progress_bar,
            finished_style=self.theme.progress_bar_finished,
            pulse_style=self.theme.progress_bar_pulse,
        )
        what = TextColumn("{task.description}")
        count = BatchesProcessedColumn(style=self.theme.batch_progress)
        return [what, bar, count, TimeRemainingColumn(), TextColumn("left")]
