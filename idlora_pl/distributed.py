"""Several processes (ranks) at one task: the part of a list that each of them does, and a clean end.

Together the processes do each item once.
"""

import atexit
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import distributed
from torch.utils.data import DataLoader, IterableDataset


class OwnShare(IterableDataset[Any]):
    """Every n-th item, from the rank of this process on; all items where there is one process.

    Lightning leaves an iterable data set as it is. The sampler that it gives to others repeats items of a test until
    all processes have equally many, and refuses fewer items than processes.
    """

    def __init__(self, items: Sequence[Any]) -> None:
        """Remember the items; they are shared out when they are read."""
        self.items = items

    def _own(self) -> Sequence[Any]:
        if not (dist.is_available() and dist.is_initialized()):
            return self.items
        return self.items[dist.get_rank() :: dist.get_world_size()]

    def __iter__(self) -> Iterator[Any]:
        """Yield the items of this process."""
        return iter(self._own())

    def __len__(self) -> int:
        """How many they are; at least 1 where there are any, as Lightning refuses a rank without work."""
        return max(len(self._own()), min(1, len(self.items)))


def shared_loader(items: Sequence[Any], batch_size: int) -> DataLoader[Any]:
    """Return a loader that gives lists of the items that this process has to do."""
    return DataLoader(OwnShare(items), batch_size=batch_size, collate_fn=list, num_workers=0)


def set_up_torch() -> None:
    """Let CUDA multiply float32 matrices in TF32, and let this process end cleanly."""
    close_at_exit()
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")


def close_at_exit() -> None:
    """Destroy the process group before the interpreter ends; Lightning does so for NCCL alone.

    A Gloo thread that still holds a tensor while Python is torn down ends the process with SIGABRT, and a finished run
    with a status other than 0 (pytorch/pytorch, pull request 179291).
    """
    atexit.unregister(_close)
    atexit.register(_close)


def _close() -> None:
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
