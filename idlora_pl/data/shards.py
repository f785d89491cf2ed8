"""A shard set: a folder of WebDataset tar files and an index.json that says what is in them.

    pairs-000000.tar    <key>.latents.safetensors, <key>.meta.json, <next key>. ...
    index.json          shapes and precision of every tensor, keys, sizes and sha256 of every shard

All samples of a set have the same shapes, so a batch needs no padding. Equal samples give equal bytes. A set that
was imported with padded audio tells the true lengths in the `meta` of every sample: "target_tokens" and
"reference_tokens"; without these keys nothing is padded.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import webdataset as wds

from idlora_pl.data.index import INDEX_NAME, KEY, ShardFile, ShardIndex
from idlora_pl.data.samples import PairBatch, PairSample, ShardError, collate, decode_sample, encode_sample

__all__ = [
    "PairBatch",
    "PairSample",
    "ShardError",
    "ShardFile",
    "ShardIndex",
    "collate",
    "decode_sample",
    "encode_sample",
    "write_shard",
    "write_shards",
]


def is_key(key: str) -> bool:
    """Say whether a sample may have this name: letters, digits, _ and -, 1 to 80 of them.

    Example:
        >>> is_key("ann-a-000-r1"), is_key("../ann"), is_key("a.b")
        (True, False, False)
    """
    return KEY.fullmatch(key) is not None


def write_shards(
    samples: Iterable[PairSample],
    folder: str | os.PathLike[str],
    *,
    samples_per_shard: int = 256,
    codecs: str = "",
    settings: Mapping[str, Any] | None = None,
) -> ShardIndex:
    """Write pairs into a new shard set; the folder appears under its name only when it is complete.

    Args:
        samples: pairs; the first one sets shapes and precision of all.
        folder: where to write; must not exist or be empty.
        samples_per_shard: how many pairs one tar file holds.
        codecs: name of the base model or codecs that made the latents.
        settings: how the samples were made, for the index.

    Returns:
        The index that was written.

    Raises:
        ShardError: when there is no sample, a shape differs, a key is unusable or repeated, or the folder
            already holds something.
    """
    if samples_per_shard < 1:
        raise ValueError(f"samples_per_shard must be at least 1; got {samples_per_shard}")
    stream = iter(samples)
    first = next(stream, None)
    if first is None:
        raise ShardError(f"{folder}: there is no sample to write; make some with data_tools.encode_clips")
    index = ShardIndex(
        shards=(),
        shapes={name: tuple(tensor.shape) for name, tensor in first.tensors().items()},
        dtypes={name: str(tensor.dtype).removeprefix("torch.") for name, tensor in first.tensors().items()},
        codecs=codecs,
        settings=dict(settings or {}),
    )
    with _appearing(Path(folder)) as partial:
        shards: list[ShardFile] = []
        taken: set[str] = set()
        stream = chain([first], stream)
        while part := list(islice(stream, samples_per_shard)):
            shards.append(write_shard(part, partial / f"pairs-{len(shards):06d}.tar", index, taken=taken))
        index = replace(index, shards=tuple(shards))
        (partial / INDEX_NAME).write_text(index.to_json())
    return index


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `folder` on success and vanishes on failure."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ShardError(f"{folder} already holds something; remove it or choose another folder")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_shard(
    samples: Iterable[PairSample],
    path: Path,
    index: ShardIndex,
    *,
    taken: set[str] | None = None,
    name: str | None = None,
) -> ShardFile:
    """Write one tar file with fixed times and owners; one sample is in memory at a time.

    Args:
        samples: pairs, in the order of the file.
        path: where to write; it is overwritten.
        index: whose shapes and precision every sample must have.
        taken: keys that other shards of the set have; those of this one are added.
        name: of the file in messages and in the index, when it is written under another one first.

    Returns:
        What index.json says of the file.

    Raises:
        ShardError: when a shape or precision differs, or a key is unusable or repeated.
    """
    taken = set() if taken is None else taken
    keys: list[str] = []
    # 0o644 and mtime 0: equal samples give equal bytes
    with open(path, "wb") as file, wds.TarWriter(file, "", "", 0o644, encoder=False, mtime=0) as tar:
        for sample in samples:
            where = f"{name or path.name}: clip {sample.key}"
            if not is_key(sample.key):
                raise ShardError(f"{where} has a key outside letters, digits, _ and - (1 to 80); rename it")
            if sample.key in taken:
                raise ShardError(f"{where} is in the set twice; give every pair its own key")
            index.check(sample, where)
            taken.add(sample.key)
            keys.append(sample.key)
            tar.write({"__key__": sample.key} | encode_sample(sample))
    return ShardFile(name or path.name, tuple(keys), path.stat().st_size, sha256_of(path))


def sha256_of(path: Path) -> str:
    """Return the checksum of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
