"""Score a row on all ranks of a Lightning trainer: each clip on one of them, all appending to one file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.utils.data import DataLoader

from idlora_pl.distributed import close_at_exit, shared_loader
from idlora_pl.evaluation.plan import Folder, Held, Work
from idlora_pl.evaluation.run import Outcome, ScorerSet, outcome, score_work
from idlora_pl.results.row import ScoreRow
from idlora_pl.results.scores_file import append_scores, read_scores
from idlora_pl.scorers.registry import card_named


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
        close_at_exit()
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


def score_on_ranks(folder: Folder, chosen: ScorerSet, *, devices: int, accelerator: str = "auto") -> Outcome | None:
    """Score what is left of a row on several devices.

    Under torchrun or SLURM the processes that are there are used, otherwise they are started.

    Args:
        folder: The row.
        chosen: The scorers.
        devices: How many.
        accelerator: "cpu", "gpu" or "auto".

    Returns:
        What it came to, on the first rank; None on the others, which know their own share alone.

    Raises:
        Unavailable: A scorer lacks weights or a library.
        ValueError: As in `Folder.left`; or another process scores the row; or there are no such devices.
    """
    trainer = _trainer(devices, accelerator)
    is_first = trainer.is_global_zero
    names = {score.name for name in chosen.names for score in card_named(name).scores}
    with folder.claimed() if is_first else nullcontext():
        before = folder.held(names) if is_first else set()
        trainer.predict(FolderScoring(folder, chosen), return_predictions=False)
        if not is_first:
            return None
        rows = list(_new_rows(folder, names, before))
    return outcome(rows, len(folder.items) - len(rows))


def _trainer(devices: int, accelerator: str) -> L.Trainer:
    launched = TorchElasticEnvironment.detect() or SLURMEnvironment.detect()
    strategy = "auto" if devices == 1 and not launched else ("ddp" if launched else "ddp_spawn")
    try:
        return L.Trainer(
            accelerator=accelerator,
            devices=devices,
            strategy=strategy,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            callbacks=[RichProgressBar()],
        )
    except (MisconfigurationException, ModuleNotFoundError) as error:
        raise ValueError(
            f"--devices {devices} with --accelerator {accelerator} cannot be used ({str(error).rstrip('.')}); "
            "give what is there, as with --accelerator cpu"
        ) from error


def _new_rows(folder: Folder, names: set[str], before: set[Held]) -> Iterator[ScoreRow]:
    """Read what all ranks have appended: the scores of these names that the row did not hold before."""
    clips = {(item.id, item.seed) for item in folder.items}
    for row in read_scores(folder.scores):
        new = [name for name in row.scores if name in names and (row.key, row.seed, name) not in before]
        if row.row == folder.row and (row.key, row.seed) in clips and new:
            yield replace(
                row,
                scores={name: row.scores[name] for name in new},
                reasons={name: row.reasons[name] for name in new if name in row.reasons},
                scorers={name: facts for name, facts in row.scorers.items() if set(facts.scores) <= set(new)},
            )
