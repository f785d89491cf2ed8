"""Score a row on all ranks of a Lightning trainer: each clip on one of them, all appending to one file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.callbacks import RichProgressBar
from torch import nn
from torch.utils.data import DataLoader

from idlora_pl.data.share import shared_loader
from idlora_pl.report.scores import append_scores
from idlora_pl.scoring.plan import Folder, Work
from idlora_pl.scoring.run import ScorerSet, score_work


class FolderScoring(L.LightningModule):
    """Scores what is left of a row with `Trainer.predict`; each rank takes its share of the clips.

    Args:
        folder: The row.
        chosen: The scorers; every rank builds its own.
    """

    def __init__(self, folder: Folder, chosen: ScorerSet) -> None:
        super().__init__()
        self.folder, self.chosen = folder, chosen
        self.works: list[Work] = []

    def setup(self, stage: str) -> None:
        """Build the scorers and see what is left; nobody appends before everybody has seen it."""
        self.scorers = self.chosen.load(self.trainer.strategy.root_device.type)
        # as a part of the module, so that Lightning moves them to the device of the rank
        self.metrics = nn.ModuleList([scorer.metric for scorer in self.scorers])
        if self.trainer.is_global_zero:
            self.folder.make_room(self.scorers)
        self.trainer.strategy.barrier("room")
        self.works = self.folder.left(self.scorers)
        self.trainer.strategy.barrier("seen")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the clips of this rank, one a batch."""
        return shared_loader(self.works, 1)

    def transfer_batch_to_device(self, batch: Sequence[Work], device: object, dataloader_idx: int) -> Sequence[Work]:
        """Leave the clips where they are: they are paths."""
        return batch

    def predict_step(self, batch: Sequence[Work], batch_idx: int) -> None:
        """Score a clip and append its row."""
        for work in batch:
            append_scores(self.folder.scores, [score_work(self.folder, self.scorers, work)])


def score_on_ranks(folder: Folder, chosen: ScorerSet, *, devices: int, accelerator: str = "auto") -> None:
    """Score what is left of a row on several devices.

    Under torchrun or SLURM the processes that are there are used, otherwise they are started.

    Args:
        folder: The row.
        chosen: The scorers.
        devices: How many.
        accelerator: "cpu", "gpu" or "auto".
    """
    launched = TorchElasticEnvironment.detect() or SLURMEnvironment.detect()
    strategy = "auto" if devices == 1 and not launched else ("ddp" if launched else "ddp_spawn")
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[RichProgressBar()],
    )
    trainer.predict(FolderScoring(folder, chosen), return_predictions=False)
