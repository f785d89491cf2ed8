"""Find a shard set on disk and read its samples through webdataset, in a given order.

Only the two files that belong to a pair are ever taken from a tar; nothing is unpickled.
"""

import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import braceexpand
import webdataset as wds
from torch.utils.data import IterableDataset, get_worker_info

from idlora_pl.data.index import INDEX_NAME, ShardIndex
from idlora_pl.data.order import EpochOrder, Ref
from idlora_pl.data.samples import (
    META_FILE,
    TENSORS_FILE,
    PairBatch,
    PairSample,
    ShardError,
    collate,
    decode_sample,
)

_WRITE = "write it with data_tools.write_shards"


@dataclass(frozen=True)
class ShardSet:
    """Shards and where they are.

    Attributes:
        urls: one tar file each, in the order of `index.shards`.
        index: what they hold.
    """

    urls: tuple[str, ...]
    index: ShardIndex

    def read(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, PairSample]]:
        """Yield the samples `refs`; neighbours of one shard are read together, in the order of the tar.

        Raises:
            ShardError: when a shard cannot be read or lacks a sample.
        """
        for shard, neighbours in groupby(refs, key=itemgetter(0)):
            yield from self._read_shard(shard, {position for _, position in neighbours})

    def _read_shard(self, shard: int, positions: set[int]) -> Iterator[tuple[Ref, PairSample]]:
        file = self.index.shards[shard]
        left = {file.keys[position]: position for position in positions}
        try:
            for key, item in _tar_samples(self.urls[shard], set(left)):
                sample = decode_sample(item, f"{file.name}: clip {key}")
                self.index.check(sample, f"{file.name}: clip {key}")
                yield (shard, left.pop(key)), sample
        except (OSError, tarfile.TarError, EOFError) as error:
            raise ShardError(f"{file.name} cannot be read ({error.args[0]}); copy it again or {_WRITE}") from error
        if left:
            raise ShardError(
                f"{file.name}: clip {min(left)} is in {INDEX_NAME} but not in the tar; copy the tar again or {_WRITE}"
            )

    def in_order(self, refs: Sequence[Ref], reads: Sequence[Ref]) -> Iterator[PairSample]:
        """Yield the samples `refs`, reading in the order of `reads`; what is read early waits in memory."""
        waiting: dict[Ref, PairSample] = {}
        needed = set(refs)
        reader = self.read(ref for ref in reads if ref in needed)
        for ref in refs:
            while ref not in waiting:
                found, sample = next(reader)
                waiting[found] = sample
            yield waiting.pop(ref)


def _tar_samples(url: str, keys: set[str]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield (key, {suffix: bytes}) of the samples `keys` of one tar."""
    names = {f"{key}.{suffix}" for key in keys for suffix in (TENSORS_FILE, META_FILE)}
    only_ours = wds.tarfile_to_samples(select_files=lambda name: name in names)
    for item in wds.DataPipeline(wds.SimpleShardList([url]), only_ours):
        yield item.pop("__key__"), item


def open_shards(shards: str) -> ShardSet:
    """Find a shard set and look whether it is complete.

    Args:
        shards: a folder with an index.json, or a brace pattern of its tar files such as
            "data/pairs-{000000..000007}.tar"; addresses with "://" are opened by webdataset.

    Raises:
        ShardError: when folder, index or a shard is missing, or a shard has another size than its index says.
    """
    pattern = shards.rstrip("/")
    names = None
    if "{" in pattern or pattern.endswith(".tar"):
        paths = list(braceexpand.braceexpand(pattern))
        pattern, names = pattern.rpartition("/")[0] or ".", [path.rpartition("/")[2] for path in paths]
    remote = "://" in pattern
    index = _remote_index(pattern) if remote else _local_index(Path(pattern))
    if names is not None:
        index = _selected(index, names, pattern)
    if not remote:
        _refuse_incomplete(Path(pattern), index)
    return ShardSet(tuple(f"{pattern}/{shard.name}" for shard in index.shards), index)


def _local_index(folder: Path) -> ShardIndex:
    """Read index.json of a folder."""
    path = folder / INDEX_NAME
    if not path.is_file():
        state = "does not exist" if not folder.exists() else f"has no {INDEX_NAME}"
        state = "is empty" if folder.is_dir() and not any(folder.iterdir()) else state
        raise ShardError(f"shard folder {folder} {state}; give the folder of a shard set, or {_WRITE}")
    return ShardIndex.from_json(path.read_bytes(), str(path))


def _remote_index(address: str) -> ShardIndex:
    """Read index.json beside shards that webdataset opens."""
    url = f"{address}/{INDEX_NAME}"
    with wds.gopen(url) as stream:
        return ShardIndex.from_json(stream.read(), url)


def _selected(index: ShardIndex, names: list[str], folder: str) -> ShardIndex:
    """Keep the shards that a brace pattern names."""
    by_name = {shard.name: shard for shard in index.shards}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ShardError(
            f"{folder}/{unknown[0]} is not in {INDEX_NAME}, which lists {index.shards[0].name} to "
            f"{index.shards[-1].name}; correct the pattern"
        )
    return replace(index, shards=tuple(by_name[name] for name in names))


def _refuse_incomplete(folder: Path, index: ShardIndex) -> None:
    """Raise ShardError for a shard that is missing or cut short."""
    for shard in index.shards:
        path = folder / shard.name
        if not path.is_file():
            raise ShardError(f"{path} is in {INDEX_NAME} but missing; copy it again or {_WRITE}")
        if path.stat().st_size != shard.n_bytes:
            raise ShardError(
                f"{path} has {path.stat().st_size} bytes, {INDEX_NAME} says {shard.n_bytes}; copy it again or {_WRITE}"
            )


class BatchStream(IterableDataset[PairBatch | ShardError]):
    """The batches of one rank in one epoch, read by one or several workers of a DataLoader.

    A shard that fails is given out as its error, because an exception inside a worker arrives as a page of
    traceback; the loader raises it.
    """

    def __init__(self, shards: ShardSet, order: EpochOrder, *, epoch: int, rank: int, skip: int = 0) -> None:
        """Prepare to read.

        Args:
            shards: where the samples are.
            order: who reads which samples when.
            epoch: number of the pass.
            rank: of this process.
            skip: batches of this rank that an earlier run has used already.
        """
        self.shards, self.order, self.epoch, self.rank, self.skip = shards, order, epoch, rank, skip

    def __iter__(self) -> Iterator[PairBatch | ShardError]:
        """Yield this worker's batches."""
        info = get_worker_info()
        turn = info.id if info else 0
        # the DataLoader asks its worker 0 first, the order continues with worker skip % n_workers
        worker = (turn + self.skip) % self.order.n_workers
        batches = self.order.worker_batches(self.epoch, self.rank, worker)
        batches = batches[len(range(worker, self.skip, self.order.n_workers)) :]
        reads = self.order.reads(self.epoch, self.rank, worker)
        stream = self.shards.in_order([ref for batch in batches for ref in batch], reads)
        try:
            for batch in batches:
                yield collate([next(stream) for _ in batch])
        except ShardError as error:
            yield error
