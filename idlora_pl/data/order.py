"""The order in which an epoch visits the samples: a pure function of the seed and the epoch.

Shards are permuted, the resulting line of samples is cut into one equal piece for every process (rank) and
within it into one piece for every worker, and each worker's piece goes through a shuffle buffer. Whole
batches are dealt to workers in turn, as torch's DataLoader collects them.
"""

import random
from dataclasses import dataclass

import webdataset as wds

Ref = tuple[int, int]
"""(index of the shard, position in it)."""


@dataclass(frozen=True)
class EpochOrder:
    """Who reads which samples when.

    Attributes:
        counts: samples in each shard.
        batch_size: samples of one batch on one rank.
        shuffle_buffer: samples that a worker keeps to draw from; 0 keeps the order of the shards.
        seed: of the permutations.
        n_ranks: processes that train together.
        n_workers: reading processes of each rank, at least 1.
        drop_last: whether an incomplete last batch, and an incomplete last step, is left out.
        batches_a_step: batches that training accumulates for one optimiser step.

    Raises:
        ValueError: when there is not one batch for every rank, or not one step.

    Example:
        >>> EpochOrder((3, 2), batch_size=2, shuffle_buffer=0, drop_last=False).batches(epoch=0, rank=0)
        [[(0, 0), (0, 1)], [(0, 2), (1, 0)], [(1, 1)]]
    """

    counts: tuple[int, ...]
    batch_size: int
    shuffle_buffer: int = 256
    seed: int = 0
    n_ranks: int = 1
    n_workers: int = 1
    drop_last: bool = True
    batches_a_step: int = 1

    def __post_init__(self) -> None:
        """Refuse settings that leave nothing to train on."""
        least_of = {"batch_size": 1, "shuffle_buffer": 0, "n_ranks": 1, "n_workers": 1, "batches_a_step": 1}
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}; got {getattr(self, name)}")
        each = sum(self.counts) // self.n_ranks
        n_batches = each // self.batch_size if self.drop_last else -(-each // self.batch_size)
        if n_batches < 1:
            raise ValueError(
                f"batch_size {self.batch_size} on {self.n_ranks} processes needs more than the "
                f"{sum(self.counts)} samples of the shard set; use a smaller batch_size, drop_last false "
                "or more samples"
            )
        if n_batches < self.batches_a_step:
            raise ValueError(
                f"trainer.accumulate_grad_batches {self.batches_a_step} makes a step of {self.batches_a_step} batches, "
                f"and an epoch has {n_batches} (batch_size {self.batch_size} on {self.n_ranks} processes, "
                f"{sum(self.counts)} samples); lower accumulate_grad_batches to {n_batches} at most, or batch_size, "
                "or give more samples"
            )

    @property
    def n_rank_samples(self) -> int:
        """Samples that each rank sees; a remainder of less than n_ranks waits for another epoch."""
        each = sum(self.counts) // self.n_ranks
        return each - each % (self.batch_size * self.batches_a_step) if self.drop_last else each

    @property
    def n_batches(self) -> int:
        """Batches of one epoch, the same on every rank."""
        return -(-self.n_rank_samples // self.batch_size)

    def reads(self, epoch: int, rank: int, worker: int) -> list[Ref]:
        """Return the samples of one worker in the order in which it reads them from the shards."""
        shards = list(range(len(self.counts)))
        begin = 0
        if self.shuffle_buffer:
            rng = random.Random(f"shards {self.seed} {epoch}")
            rng.shuffle(shards)
            begin = rng.randrange(sum(self.counts))
        line = [(shard, position) for shard in shards for position in range(self.counts[shard])]
        # begin anywhere, so that it is never always the same samples that drop_last leaves out
        line = line[begin:] + line[:begin]
        each = sum(self.counts) // self.n_ranks
        mine = line[rank * each : rank * each + self.n_rank_samples]
        start = sum(self._n_samples(earlier) for earlier in range(worker))
        return mine[start : start + self._n_samples(worker)]

    def worker_batches(self, epoch: int, rank: int, worker: int) -> list[list[Ref]]:
        """Return the batches of one worker, in the order in which it gives them out."""
        refs = self.reads(epoch, rank, worker)
        if self.shuffle_buffer:
            rng = random.Random(f"buffer {self.seed} {epoch} {rank} {worker}")
            refs = list(wds.shuffle(self.shuffle_buffer, initial=self.shuffle_buffer, rng=rng)(iter(refs)))
        return [refs[start : start + self.batch_size] for start in range(0, len(refs), self.batch_size)]

    def batches(self, epoch: int, rank: int) -> list[list[Ref]]:
        """Return the batches of one rank, workers in turn."""
        workers = [self.worker_batches(epoch, rank, worker) for worker in range(self.n_workers)]
        return [workers[k % self.n_workers][k // self.n_workers] for k in range(self.n_batches)]

    def _n_samples(self, worker: int) -> int:
        """Samples of one worker: batches are dealt in turn, only the last one may be short."""
        n_batches = len(range(worker, self.n_batches, self.n_workers))
        missing = self.n_batches * self.batch_size - self.n_rank_samples
        has_last = worker == (self.n_batches - 1) % self.n_workers
        return n_batches * self.batch_size - (missing if has_last else 0)
