"""One pass over the batches of a shard set, from anywhere in it; where training stands is kept in its checkpoint."""

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

from idlora_pl.data.batches import BatchStream, FaultLog, Made, Memory, OnFault
from idlora_pl.data.order import EpochOrder
from idlora_pl.data.samples import PairBatch, PairSample, ShardError
from idlora_pl.data.shards import ShardIndex
from idlora_pl.data.stream import ShardSet

_GRACE_S = 60


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
        faults: what was left out so far.
    """

    def __init__(
        self,
        shards: ShardSet | Memory,
        order: EpochOrder,
        *,
        rank: int = 0,
        in_workers: bool = True,
        on_fault: OnFault = "stop",
        max_faults: int = 0,
        change: Callable[[PairSample, int], PairSample] | None = None,
        ahead: bool = False,
    ) -> None:
        """Prepare to read.

        Args:
            shards: where the samples are; those in memory are read without workers.
            order: who reads which samples when.
            rank: of this process.
            in_workers: whether `order.n_workers` processes read, or this one does.
            on_fault: whether a clip that cannot be read stops the run or is replaced by another one.
            max_faults: how many clips may be replaced.
            change: applied to every sample, with the epoch.
            ahead: workers go on with the next epoch at once, so that its first batches wait when they are asked for.
        """
        self.shards, self.order, self.rank = shards, order, rank
        self.in_workers = in_workers and isinstance(shards, ShardSet)
        self.on_fault, self.change, self.ahead = on_fault, change, ahead and self.in_workers
        self._running: tuple[int, Iterator[Made]] | None = None
        self.position, self.faults = Position(), FaultLog(max_faults)
        self.resume_at: Position | None = None
        self.current_epoch: Callable[[], int] | None = None

    def __len__(self) -> int:
        """Batches of one epoch."""
        return self.order.n_batches

    def __iter__(self) -> Iterator[PairBatch]:
        """Yield the batches of the next epoch; of a resumed one, those that are left.

        Raises:
            ShardError: when a clip cannot be read and may not be replaced.
        """
        resumed, self.resume_at = self.resume_at, None
        if self.current_epoch is not None:
            epoch = self.current_epoch()
        elif resumed is not None:
            epoch = resumed.epoch + (resumed.batches >= len(self))
        else:
            epoch = self.position.epoch + 1
        done = resumed.batches if resumed is not None and resumed.epoch == epoch else 0
        self.position.epoch, self.position.batches = epoch, done
        if not done:
            self.faults.in_epoch = 0
        for made in self._batches(epoch, done):
            if isinstance(made, ShardError):
                raise made
            batch, faults = made
            for fault in faults:
                self.faults.note(fault)
            self.position.batches += 1
            yield batch

    def _batches(self, epoch: int, skip: int) -> Iterator[Made]:
        """Yield the batches of an epoch from number `skip` on."""
        next_epoch, running = self._running or (None, None)
        if running is None or (next_epoch, 0) != (epoch, skip):
            running = self._started(epoch, skip)
        # whoever leaves an epoch early leaves these workers behind
        self._running = None
        for n_left in reversed(range(len(self) - skip)):
            made = next(running)
            if self.ahead and not n_left:
                self._running = epoch + 1, running
            yield made

    def _started(self, epoch: int, skip: int) -> Iterator[Made]:
        """Start the workers."""
        stream = BatchStream(self.shards, self.order, epoch=epoch, rank=self.rank, skip=skip, on_fault=self.on_fault)
        stream.change, stream.endless = self.change, self.ahead
        n_workers = self.order.n_workers if self.in_workers else 0
        return iter(
            DataLoader(
                stream,
                batch_size=None,
                num_workers=n_workers,
                pin_memory=torch.cuda.is_available(),
                worker_init_fn=_outlive_signals,
            )
        )

    def close(self) -> None:
        """End the workers that have read ahead."""
        self._running = None


def _outlive_signals(_worker: int) -> None:
    """Let a worker go on where a signal goes to the whole group: the training process needs batches to end its step.

    A worker ends with the process that it reads for, and a minute after a SIGTERM however it is.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE_S))


def state_of(loader: PairLoader, index: ShardIndex, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the position of a loader, what decides its order, and what it left out; {} before the first batch.

    Args:
        loader: of training batches.
        index: what the shards hold.
        settings: what else decides which samples are seen.
    """
    if loader.position.epoch < 0:
        return {}
    state = asdict(loader.position) | {"order": asdict(loader.order), "settings": settings}
    state["shards"] = [[shard.name, shard.sha256] for shard in index.shards]
    if loader.on_fault == "skip":
        faults: list[Any] = [loader.faults.state_dict()] * loader.order.n_ranks
        if len(faults) > 1:  # each process left out other clips, and only one writes the checkpoint
            dist.all_gather_object(faults, loader.faults.state_dict())
        state["faults"] = faults
    return state


def continue_from(state: dict[str, Any], loader: PairLoader, index: ShardIndex, settings: dict[str, Any]) -> None:
    """Let a loader continue where `state_of` was called.

    Raises:
        ValueError: when its samples, or their order, are others.
    """
    _refuse_others({"batches_a_step": 1} | state["order"], asdict(loader.order))
    _refuse_other_shards(state.get("shards", []), index)
    _refuse_others(settings | state.get("settings", {}), settings)
    loader.resume_at = Position(state["epoch"], state["batches"])
    if "faults" in state:
        loader.faults.load_state_dict(state["faults"][loader.rank])


def _refuse_other_shards(saved: Sequence[Sequence[str]], index: ShardIndex) -> None:
    """Raise ValueError when shards of as many samples hold other ones; a checkpoint without checksums cannot tell."""
    for (name, sha256), shard in zip(saved, index.shards, strict=False):
        if sha256 != shard.sha256:
            raise ValueError(
                f"the checkpoint was made with other clips: its {name} has the sha256 {sha256[:12]}..., "
                f"{shard.name} of this run has {shard.sha256[:12]}...; resume with the same set, or begin a new run"
            )


def _refuse_others(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise ValueError when a checkpoint's order cannot be continued."""
    for name, value in now.items():
        if _tuple_if_list(saved[name]) != value:
            raise ValueError(
                f"the checkpoint was made with data {name} = {saved[name]}, this run has {value}; "
                "resume with the same data settings"
            )


def _tuple_if_list(value: Any) -> Any:
    """Return a list as a tuple, as JSON-like checkpoints may turn one into the other."""
    return tuple(value) if isinstance(value, list) else value
