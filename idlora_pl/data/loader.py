"""One pass over the batches of a shard set, from anywhere in it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader

from idlora_pl.data.order import EpochOrder, Ref
from idlora_pl.data.samples import PairBatch, PairSample, ShardError, collate
from idlora_pl.data.stream import BatchStream, ShardSet


@dataclass
class Position:
    """Where training stands: `batches` of `epoch` have been given out; before the first epoch it is -1."""

    epoch: int = -1
    batches: int = 0


class PairLoader:
    """Gives the batches of one epoch each time it is iterated, and notes how far it came.

    Attributes:
        order: who reads which samples when.
        position: the epoch and the batches given out so far.
    """

    def __init__(
        self,
        shards: ShardSet,
        order: EpochOrder,
        *,
        rank: int = 0,
        in_workers: bool = True,
        cached: dict[Ref, PairSample] | None = None,
    ) -> None:
        """Prepare to read.

        Args:
            shards: where the samples are.
            order: who reads which samples when.
            rank: of this process.
            in_workers: whether `order.n_workers` processes read, or this one does.
            cached: all samples in memory, or None to read from the shards.
        """
        self.shards, self.order, self.rank = shards, order, rank
        self.in_workers, self.cached = in_workers, cached
        self.position = Position()
        self.resume_at: Position | None = None
        self.current_epoch: Callable[[], int] | None = None

    def __len__(self) -> int:
        """Batches of one epoch."""
        return self.order.n_batches

    def __iter__(self) -> Iterator[PairBatch]:
        """Yield the batches of the next epoch; of a resumed one, those that are left."""
        resumed, self.resume_at = self.resume_at, None
        if self.current_epoch is not None:
            epoch = self.current_epoch()
        elif resumed is not None:
            epoch = resumed.epoch + (resumed.batches >= len(self))
        else:
            epoch = self.position.epoch + 1
        done = resumed.batches if resumed is not None and resumed.epoch == epoch else 0
        self.position.epoch, self.position.batches = epoch, done
        for batch in self._batches(epoch, done):
            if isinstance(batch, ShardError):
                raise batch
            self.position.batches += 1
            yield batch

    def _batches(self, epoch: int, skip: int) -> Iterator[PairBatch | ShardError]:
        """Yield the batches of an epoch from number `skip` on."""
        if self.cached is not None:
            for refs in self.order.batches(epoch, self.rank)[skip:]:
                yield collate([self.cached[ref] for ref in refs])
            return
        yield from DataLoader(
            BatchStream(self.shards, self.order, epoch=epoch, rank=self.rank, skip=skip),
            batch_size=None,
            num_workers=self.order.n_workers if self.in_workers else 0,
            pin_memory=torch.cuda.is_available(),
        )
