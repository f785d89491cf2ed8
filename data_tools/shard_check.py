"""Find what is wrong with a shard set: every fault with its shard, its member and a reason; nothing is unpacked."""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from idlora_pl.data.index import INDEX_NAME, ShardIndex
from idlora_pl.data.samples import META_FILE, TENSORS_FILE, ShardError, decode_sample
from idlora_pl.data.shards import ShardFile, is_key, sha256_of

SUFFIXES = (TENSORS_FILE, META_FILE)


@dataclass(frozen=True)
class Fault:
    """Something that is wrong.

    Attributes:
        shard: name of the tar file.
        member: name of the file in it; "" when it is the tar as a whole.
        reason: a word.
        detail: what was found.
    """

    shard: str
    member: str
    reason: str
    detail: str


def read_index(folder: Path) -> ShardIndex:
    """Read the index of a folder, whose shards need not be there.

    Raises:
        ShardError: when there is none.
    """
    path = folder / INDEX_NAME
    if not path.is_file():
        raise ShardError(f"{folder} has no {INDEX_NAME}; give the folder of a shard set")
    return ShardIndex.from_json(path.read_bytes(), str(path))


def check_shard(folder: Path, shard: ShardFile, index: ShardIndex, taken: dict[str, str]) -> Iterator[Fault]:
    """Yield the faults of one shard.

    Args:
        folder: of the shard set.
        shard: what the index says of it.
        index: whose shapes and precision its samples must have.
        taken: shard of every key that was seen before; those of this one are added.
    """
    path = folder / shard.name
    if path.is_symlink() or not path.is_file():
        yield Fault(shard.name, "", "missing", f"{INDEX_NAME} lists it")
        return
    if path.stat().st_size != shard.n_bytes:
        yield Fault(shard.name, "", "size", f"{path.stat().st_size} bytes, {INDEX_NAME} says {shard.n_bytes}")
    elif sha256_of(path) != shard.sha256:
        yield Fault(shard.name, "", "sha256", f"another one than {INDEX_NAME} says")
    found: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            yield from _members(tar, shard, index, found, taken)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        yield Fault(shard.name, "", "unreadable", str(error))
    for key in sorted(set(shard.keys) - {key for key, name in taken.items() if name == shard.name}):
        yield Fault(shard.name, key, "missing", f"{INDEX_NAME} lists it")


def _members(
    tar: tarfile.TarFile,
    shard: ShardFile,
    index: ShardIndex,
    waiting: dict[str, dict[str, bytes]],
    taken: dict[str, str],
) -> Iterator[Fault]:
    """Yield the faults of the members of one tar, of which at most one sample is in memory."""
    for member in tar:
        key, _, suffix = member.name.partition(".")
        if (fault := _unusable(member, shard, key, suffix)) is not None:
            yield fault
            continue
        if key in taken or suffix in waiting.get(key, {}):
            yield Fault(shard.name, member.name, "duplicate", f"also in {taken.get(key, shard.name)}")
            continue
        stream = tar.extractfile(member)
        waiting.setdefault(key, {})[suffix] = stream.read() if stream is not None else b""
        if len(waiting[key]) == len(SUFFIXES):
            taken[key] = shard.name
            yield from _sample(shard.name, key, waiting.pop(key), index)
    for key, files in waiting.items():
        taken[key] = shard.name
        lacking = next(suffix for suffix in SUFFIXES if suffix not in files)
        yield Fault(shard.name, f"{key}.{lacking}", "missing", "the sample has one file")


def _unusable(member: tarfile.TarInfo, shard: ShardFile, key: str, suffix: str) -> Fault | None:
    """Say why a member is no file of a sample."""
    name = member.name
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
        return Fault(shard.name, name, "unsafe_name", "leads out of the folder")
    if not member.isreg():
        return Fault(shard.name, name, "not_a_file", "a link, folder or device")
    if not is_key(key) or suffix not in SUFFIXES:
        return Fault(shard.name, name, "unknown_member", f"samples are <key>.{' and <key>.'.join(SUFFIXES)}")
    if key not in shard.keys:
        return Fault(shard.name, name, "not_listed", f"{INDEX_NAME} does not list it")
    return None


def _sample(shard: str, key: str, files: dict[str, bytes], index: ShardIndex) -> Iterator[Fault]:
    """Yield what is wrong with one sample."""
    try:
        sample = decode_sample(files, key)
        if not isinstance(sample.meta, dict) or sample.meta.get("key") != key:
            yield Fault(shard, f"{key}.{META_FILE}", "schema", f"it is not of the sample {key}")
            return
        index.check(sample, key)
    except (ShardError, KeyError, TypeError, RecursionError, json.JSONDecodeError) as error:
        yield Fault(shard, key, "schema", str(error))
        return
    for name, tensor in sample.tensors().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            yield Fault(shard, f"{key}.{TENSORS_FILE}", "not_finite", f"{name}; encode it again")
