"""Find a shard set and read its samples in a given order, from disk, a URL or a command.

A tar is read from front to back; only the two files that belong to a pair are ever taken from it. Nothing is unpickled
or unpacked, and no member is trusted: one that index.json does not announce ends the reading of its tar.
"""

import tarfile
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from idlora_pl.data.addresses import Stream, expanded, is_remote, opened, tar_name, without_secrets
from idlora_pl.data.order import Ref
from idlora_pl.data.samples import MAX_HEADER_BYTES, META_FILE, TENSORS_FILE, PairSample, ShardError, decode_sample
from idlora_pl.data.shards import INDEX_NAME, ShardIndex

Files = dict[str, memoryview]
"""The files of one pair by suffix."""
MAX_META_BYTES = 1 << 20
# what tarfile raises for headers that no tar program would write
MALFORMED = (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError, IndexError, KeyError)


class TarFault(Exception):
    """A tar cannot be read any further; the message is half a sentence that says why."""


def pairs_in(
    stream: Stream, keys: Sequence[str], wanted: AbstractSet[str], max_bytes: int
) -> Iterator[tuple[str, Files]]:
    """Yield (key, files) of the pairs `wanted`, in the order of the tar.

    A tar is read no further than the last wanted pair. The last pair of a tar is given out when its end was seen.

    Args:
        stream: the tar.
        keys: of all pairs that the tar should hold.
        wanted: those to give out.
        max_bytes: size of the larger file of a pair, at most.

    Raises:
        TarFault: when the tar is malformed or ends early, or holds what it should not.
        OSError: when it cannot be read.
    """
    listed = {f"{key}.{suffix}": (key, suffix) for key in keys for suffix in (TENSORS_FILE, META_FILE)}
    pairs: dict[str, Files] = {}
    left = set(wanted)
    for member, size in _members(stream):
        if member not in listed:
            raise TarFault(f"it holds {member!r:.80}, which is no file of a pair that index.json lists")
        key, suffix = listed.pop(member)
        limit = max_bytes if suffix == TENSORS_FILE else MAX_META_BYTES
        if size > limit:
            raise TarFault(f"its member {member!r:.80} claims {size} bytes, at most {limit} are expected")
        if key not in wanted:
            continue
        pairs.setdefault(key, {})[suffix] = _content(stream, member, size)
        if len(pairs[key]) == 2 and key != keys[-1]:
            left.discard(key)
            yield key, pairs.pop(key)
            if not left:
                return
    if len(pairs.get(keys[-1], ())) == 2:
        yield keys[-1], pairs[keys[-1]]


def _members(stream: Stream) -> Iterator[tuple[str, int]]:
    """Yield name and size of every member; the stream then stands at its first byte."""
    seen: set[str] = set()
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
            for member in tar:
                name = member.name
                if not member.isreg() or member.issparse():
                    raise TarFault(f"its member {name!r:.80} is {_kind(member)}")
                if name.startswith("/") or ".." in name.split("/"):
                    raise TarFault(f"its member {name!r:.80} points outside the tar")
                if name in seen:
                    raise TarFault(f"it holds {name!r:.80} twice")
                if member.size < 0:
                    raise TarFault(f"its member {name!r:.80} claims {member.size} bytes")
                seen.add(name)
                stream.seek(member.offset_data)
                yield name, member.size
    except MALFORMED as error:
        raise TarFault(str(error) or "it is no tar") from error


def _kind(member: tarfile.TarInfo) -> str:
    """Say what a member is that is no ordinary file."""
    if member.issym() or member.islnk():
        return "a link"
    if member.isdir():
        return "a folder"
    return "a device" if member.isdev() else "no ordinary file"


def _content(stream: Stream, member: str, size: int) -> memoryview:
    """Read a member as a whole."""
    content = np.empty(size, np.uint8).data  # a bytearray would be filled with zeros first
    n_read = stream.readinto(content)
    if n_read != size:
        raise TarFault(f"it ends within {member!r:.80}, after {n_read} of {size} bytes")
    return content


_WRITE = "write it with data_tools.write_shards"
Outcome = tuple[Ref, PairSample | ShardError]
"""A sample, or why it cannot be read."""


@dataclass(frozen=True)
class ShardSet:
    """Shards and where they are.

    Attributes:
        urls: one tar file each, in the order of `index.shards`.
        index: what they hold.
        index_url: where index.json is.
        retries: how often a tar is opened again when a connection to it fails.
    """

    urls: tuple[str, ...]
    index: ShardIndex
    index_url: str = ""
    retries: int = 0

    def read(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, PairSample]]:
        """Yield the samples `refs`; neighbours of one shard are read together, in the order of the tar.

        Raises:
            ShardError: when a sample cannot be read.
        """
        for ref, found in self.outcomes(refs):
            if isinstance(found, ShardError):
                raise found
            yield ref, found

    def outcomes(self, refs: Iterable[Ref]) -> Iterator[Outcome]:
        """Yield as `read` does; a sample that cannot be read is given out as its error.

        Whether a sample can be read depends on its tar up to this sample, and not on what else is asked for.
        """
        for shard, neighbours in groupby(refs, key=itemgetter(0)):
            file = self.index.shards[shard]
            left = {file.keys[position]: (shard, position) for _, position in neighbours}
            reason = ""
            for _ in range(1 + self.retries):
                try:
                    yield from self._read_shard(shard, left)
                    reason = f"it is in {INDEX_NAME} but not in the tar"
                    break
                except TarFault as fault:
                    reason = str(fault)
                    break
                except OSError as error:
                    reason = error.strerror or str(error)
            for key in [key for key in file.keys if key in left]:
                message = f"{file.name}: clip {key} cannot be read ({reason}); copy the tar again or {_WRITE}"
                yield left.pop(key), ShardError(message)

    def _read_shard(self, shard: int, left: dict[str, Ref]) -> Iterator[Outcome]:
        """Yield samples of one tar and take them out of `left`."""
        file = self.index.shards[shard]
        most = self.index.n_sample_bytes + MAX_HEADER_BYTES
        with opened(self.urls[shard]) as stream:
            for key, files in pairs_in(stream, file.keys, set(left), most):
                yield left.pop(key), self._decoded(files, key, f"{file.name}: clip {key}")

    def _decoded(self, files: Files, key: str, name: str) -> PairSample | ShardError:
        try:
            sample = decode_sample(files, name)
            if sample.key != key:
                return ShardError(f"{name} says that it is {sample.key!r:.80}; {_WRITE}")
            self.index.check(sample, name)
        except ShardError as error:
            return error
        return sample


def open_shards(shards: str, *, retries: int = 0) -> ShardSet:
    """Find a shard set and look whether it is complete.

    Args:
        shards: a folder with an index.json, or a brace pattern of its tar files such as
            "data/pairs-{000000..000007}.tar". Addresses with "://" and commands such as
            "pipe:ssh host cat data/pairs-{000000..000007}.tar" are opened by webdataset.
        retries: how often a tar is opened again when a connection to it fails.

    Raises:
        ShardError: when folder, index or a shard is missing, or a shard on disk has another size than its index says.
    """
    try:
        place, urls = expanded(shards)
    except ValueError as error:
        raise ShardError(str(error)) from error
    index_url = place if urls else f"{place}/{INDEX_NAME}"
    remote = is_remote(place)
    index = _remote_index(index_url, retries) if remote else _local_index(Path(index_url).parent)
    if urls is None:
        urls = [f"{place}/{shard.name}" for shard in index.shards]
    else:
        index = _selected(index, [tar_name(url) for url in urls], without_secrets(place.rpartition("/")[0]))
    found = ShardSet(tuple(urls), index, index_url, retries if remote else 0)
    if not remote:
        _refuse_incomplete(found)
    return found


def _local_index(folder: Path) -> ShardIndex:
    """Read index.json of a folder."""
    path = folder / INDEX_NAME
    if not path.is_file():
        state = "does not exist" if not folder.exists() else f"has no {INDEX_NAME}"
        state = "is empty" if folder.is_dir() and not any(folder.iterdir()) else state
        raise ShardError(f"shard folder {folder} {state}; give the folder of a shard set, or {_WRITE}")
    return ShardIndex.from_json(path.read_bytes(), str(path))


def _remote_index(url: str, retries: int) -> ShardIndex:
    """Read index.json beside shards that webdataset opens."""
    name = without_secrets(url)
    for attempt in range(1 + retries):
        try:
            with opened(url) as stream:
                return ShardIndex.from_json(stream.read(), name)
        except (OSError, ValueError, ImportError) as error:
            if isinstance(error, ShardError):
                raise
            if attempt == retries or not isinstance(error, OSError):
                raise ShardError(f"{name} cannot be read ({error}); give the address of a shard set") from error
    raise ValueError(f"retries must be at least 0; got {retries}")


def _selected(index: ShardIndex, names: Sequence[str], folder: str) -> ShardIndex:
    """Keep the shards that a brace pattern names."""
    by_name = {shard.name: shard for shard in index.shards}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ShardError(
            f"{folder}/{unknown[0]} is not in {INDEX_NAME}, which lists {index.shards[0].name} to "
            f"{index.shards[-1].name}; correct the pattern"
        )
    return replace(index, shards=tuple(by_name[name] for name in names))


def _refuse_incomplete(found: ShardSet) -> None:
    """Raise ShardError for a shard that is missing or cut short."""
    for url, shard in zip(found.urls, found.index.shards, strict=True):
        path = Path(url)
        if not path.is_file():
            raise ShardError(f"{path} is in {INDEX_NAME} but missing; copy it again or {_WRITE}")
        if path.stat().st_size != shard.n_bytes:
            raise ShardError(
                f"{path} has {path.stat().st_size} bytes, {INDEX_NAME} says {shard.n_bytes}; copy it again or {_WRITE}"
            )
