"""The batches of one process, made by one or several workers of a DataLoader.

A clip that cannot be read stops a run, or is counted.
"""

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch.utils.data import IterableDataset, get_worker_info

from idlora_pl.data.order import EpochOrder, Ref
from idlora_pl.data.samples import PairBatch, PairSample, ShardError, collate
from idlora_pl.data.shards import ShardIndex
from idlora_pl.data.stream import Outcome, ShardSet

OnFault = Literal["stop", "skip"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fault:
    """One clip that could not be read, and the sentence that says why."""

    shard: str
    key: str
    reason: str


@dataclass
class FaultLog:
    """What one process has left out.

    Attributes:
        most: how many different clips may be left out in a run.
        in_epoch: how many were left out in the epoch so far.
        reasons: why, by (shard, key), over the whole run.
    """

    most: int
    in_epoch: int = 0
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)

    def note(self, fault: Fault) -> None:
        """Count a clip that was replaced by another one.

        Raises:
            ShardError: when that is one more than the limit.
        """
        self.in_epoch += 1
        if (fault.shard, fault.key) in self.reasons:
            return
        self.reasons[fault.shard, fault.key] = fault.reason
        if len(self.reasons) > self.most:
            raise ShardError(
                f"{fault.reason}; that is clip {len(self.reasons)} that could not be read, "
                f"data.max_faults allows {self.most}"
            )
        _log.warning(
            "left out, another clip takes its place (%d of %d): %s", len(self.reasons), self.most, fault.reason
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the counts, for a checkpoint."""
        return {"in_epoch": self.in_epoch, "reasons": [[*where, reason] for where, reason in self.reasons.items()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from counts that `state_dict` returned."""
        self.in_epoch = state["in_epoch"]
        self.reasons = {(shard, key): reason for shard, key, reason in state["reasons"]}


Made = tuple[PairBatch, tuple[Fault, ...]] | ShardError
"""A batch and the clips that others had to replace in it, or why there is no further batch."""
_NEAR = 64
_TRIES = 100


class Memory:
    """A shard set of which every sample was decoded once and is kept."""

    def __init__(self, shards: ShardSet) -> None:
        every = [(shard, k) for shard, count in enumerate(shards.index.counts) for k in range(count)]
        self.index: ShardIndex = shards.index
        self._kept = dict(shards.outcomes(every))

    def outcomes(self, refs: Iterable[Ref]) -> Iterator[Outcome]:
        """Yield samples, or why they cannot be read."""
        return ((ref, self._kept[ref]) for ref in refs)


class _Line:
    """The samples of one worker: asked for in one order, read in another; what is read early waits in memory."""

    def __init__(self, shards: ShardSet | Memory, reads: Sequence[Ref]) -> None:
        self._shards, self._ahead = shards, set(reads)
        self._reader = shards.outcomes(reads)
        self._waiting: dict[Ref, PairSample | ShardError] = {}

    def look(self, ref: Ref) -> PairSample | ShardError:
        """Return a sample; one that was taken already is read again."""
        while ref in self._ahead:
            found, outcome = next(self._reader)
            self._ahead.discard(found)
            self._waiting[found] = outcome
        return self._waiting[ref] if ref in self._waiting else next(iter(self._shards.outcomes([ref])))[1]

    def take(self, ref: Ref) -> PairSample | ShardError:
        """Return a sample and forget it."""
        outcome = self.look(ref)
        self._waiting.pop(ref, None)
        return outcome


class BatchStream(IterableDataset[Made]):
    """The batches of one rank in one epoch, or from there on without an end.

    A clip that fails is given out as its error, because an exception inside a worker arrives as a page of
    traceback; the loader raises it. With `on_fault="skip"` another clip takes its place, of the same worker if that
    has a good one. Which one is a function of the order, the epoch and the place, so that the number of batches,
    every other sample and a resumed run stay as they are.
    """

    def __init__(
        self,
        shards: ShardSet | Memory,
        order: EpochOrder,
        *,
        epoch: int,
        rank: int,
        skip: int = 0,
        on_fault: OnFault = "stop",
        change: Callable[[PairSample, int], PairSample] | None = None,
        endless: bool = False,
    ) -> None:
        """Prepare to read.

        Args:
            shards: where the samples are.
            order: who reads which samples when.
            epoch: number of the (first) pass.
            rank: of this process.
            skip: batches of this rank in this pass that an earlier run has used already.
            on_fault: what a clip that cannot be read does.
            change: applied to every sample, with the epoch.
            endless: go on with the next pass, so that workers read ahead while the last batches of one are used.
        """
        self.shards, self.order, self.epoch, self.rank, self.skip = shards, order, epoch, rank, skip
        self.on_fault, self.change, self.endless = on_fault, change, endless

    def __iter__(self) -> Iterator[Made]:
        """Yield the batches of this worker; without workers, those of all in turn."""
        info = get_worker_info()
        n_workers, epoch, skip, n_before = self.order.n_workers, self.epoch, self.skip, 0
        while True:
            # the DataLoader asks its workers in turn, from 0 on; this epoch begins after n_before batches
            turns = [info.id - n_before] if info else range(n_workers)
            workers = [self._of_worker(epoch, skip, (turn + skip) % n_workers) for turn in turns]
            for made in _in_turn(workers):
                yield made
                if isinstance(made, ShardError):
                    return
            if not self.endless:
                return
            n_before += self.order.n_batches - skip
            epoch, skip = epoch + 1, 0

    def _of_worker(self, epoch: int, skip: int, worker: int) -> Iterator[Made]:
        """Yield the batches that are left for one worker in one epoch, up to a clip that stops the run."""
        batches = self.order.worker_batches(epoch, self.rank, worker)
        n_done = len(range(worker, skip, self.order.n_workers))
        needed = {ref for batch in batches[n_done:] for ref in batch}
        line = _Line(self.shards, [ref for ref in self.order.reads(epoch, self.rank, worker) if ref in needed])
        refs = [ref for batch in batches for ref in batch]
        for batch in batches[n_done:]:
            made = self._made(batch, line, refs, epoch)
            yield made
            if isinstance(made, ShardError):
                return

    def _made(self, batch: Sequence[Ref], line: _Line, refs: Sequence[Ref], epoch: int) -> Made:
        """Read the samples of a batch; `refs` are all samples of its worker in this epoch."""
        samples: list[PairSample] = []
        faults: list[Fault] = []
        for ref in batch:
            outcome = line.take(ref)
            if isinstance(outcome, ShardError):
                substitute = self._substitute(ref, line, refs, epoch)
                if substitute is None:
                    return outcome
                faults.append(Fault(*self._name(ref), str(outcome)))
                outcome = substitute
            samples.append(self.change(outcome, epoch) if self.change else outcome)
        return collate(samples), tuple(faults)

    def _substitute(self, ref: Ref, line: _Line, refs: Sequence[Ref], epoch: int) -> PairSample | None:
        """Return the sample that takes the place of one that cannot be read; None where none may or none can."""
        if self.on_fault == "stop":
            return None
        outcomes = (line.look(other) for other in self._candidates(ref, refs, epoch))
        return next((outcome for outcome in outcomes if not isinstance(outcome, ShardError)), None)

    def _candidates(self, ref: Ref, refs: Sequence[Ref], epoch: int) -> list[Ref]:
        """Return which samples are tried in the place of one: drawn, but the same in every run of this order.

        First come those of its worker, the near ones before the others, since what is used soon waits in memory
        already; then samples of the whole set.
        """
        rng = random.Random(f"instead {self.order.seed} {epoch} {ref}")
        n_near = min(_NEAR, self.order.shuffle_buffer or 1, len(refs) - 1)
        first = rng.randrange(max(1, n_near))
        near = [1 + (first + k) % n_near for k in range(n_near)]
        place = refs.index(ref)
        own = [refs[(place + step) % len(refs)] for step in (*near, *range(n_near + 1, len(refs)))]
        counts = self.order.counts
        shards = rng.choices(range(len(counts)), counts, k=_TRIES)
        return own[:_TRIES] + [(shard, rng.randrange(counts[shard])) for shard in shards]

    def _name(self, ref: Ref) -> tuple[str, str]:
        """Return shard and key of a sample."""
        file = self.shards.index.shards[ref[0]]
        return file.name, file.keys[ref[1]]


def _in_turn(workers: Sequence[Iterator[Made]]) -> Iterator[Made]:
    """Yield one batch of each worker in turn, until one has none left."""
    while True:
        for worker in workers:
            made = next(worker, None)
            if made is None:
                return
            yield made
