"""How samples are spread over tar files, and the writing of one of them."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_tools.sample_folder import read_sample
from data_tools.verb.lists import Row
from idlora_pl.data.index import ShardIndex
from idlora_pl.data.samples import META_FILE, TENSORS_FILE, PairSample, ShardError
from idlora_pl.data.shards import ShardFile, write_shard
from idlora_pl.files import replacing

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([KMG]?I?B)", re.IGNORECASE)
_BLOCK = 512
"""A tar gives every member a head of one block and fills its last block up."""


def parse_bytes(text: str) -> int:
    """Read a size.

    Example:
        >>> parse_bytes("500MB"), parse_bytes("1.5 GiB")
        (500000000, 1610612736)
    """
    found = _SIZE.fullmatch(text.strip())
    size = round(float(found[1]) * _UNITS[found[2].upper()]) if found and found[2].upper() in _UNITS else 0
    if size < 1:
        raise ValueError(f"shard_size must be a size such as 500MB or 1GB; got '{text}'")
    return size


def files_of(folder: Path, key: str) -> list[Path]:
    """Return the two files of a sample."""
    return [folder / f"{key}.{suffix}" for suffix in (TENSORS_FILE, META_FILE)]


def tar_bytes(folder: Path, key: str) -> int:
    """Return how many bytes a sample takes in a tar."""
    return sum(_BLOCK + -(-path.stat().st_size // _BLOCK) * _BLOCK for path in files_of(folder, key))


def spread(sizes: Sequence[int], most_bytes: int, most_samples: int | None = None) -> list[range]:
    """Part samples, in their order, into shards that exceed neither limit unless a single sample does.

    Example:
        >>> spread([4, 4, 4, 9, 1], 8), spread([1, 1, 1], 8, 2)
        ([range(0, 2), range(2, 3), range(3, 4), range(4, 5)], [range(0, 2), range(2, 3)])
    """
    starts, filled = [0], 0
    for k, size in enumerate(sizes):
        if k > starts[-1] and (filled + size > most_bytes or k - starts[-1] == most_samples):
            starts.append(k)
            filled = 0
        filled += size
    return [range(start, stop) for start, stop in zip(starts, [*starts[1:], len(sizes)], strict=True)]


def read_meta(folder: Path, key: str) -> Row:
    """Read what a sample says of itself.

    Raises:
        ShardError: when its file cannot be read, or names another sample.
    """
    path = folder / f"{key}.{META_FILE}"
    try:
        meta = json.loads(path.read_bytes())
    except ValueError as error:
        raise ShardError(f"{path} is not JSON ({error}); delete it and run data_tools.encode_clips again") from error
    if not isinstance(meta, dict) or meta.get("key") != key:
        found = meta.get("key") if isinstance(meta, dict) else meta
        raise ShardError(f"{path} is of the sample {found!r}; delete it and run data_tools.encode_clips again")
    return meta


@dataclass(frozen=True)
class ShardJob:
    """One tar file that is to be written.

    Attributes:
        name: of the tar file.
        keys: of its samples, in their order.
        samples: the folder that holds them.
        output: the folder of the shard set.
        head: index whose shapes and precision they must have.
        state: of the files of the samples.
    """

    name: str
    keys: tuple[str, ...]
    samples: Path
    output: Path
    head: ShardIndex
    state: str


def head_of(sample: PairSample, codecs: str, settings: Row) -> ShardIndex:
    """Return the index of a set without shards, whose samples are like this one."""
    tensors = sample.tensors()
    return ShardIndex(
        shards=(),
        shapes={name: tuple(tensor.shape) for name, tensor in tensors.items()},
        dtypes={name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()},
        codecs=codecs,
        settings=settings,
    )


def write_job(job: ShardJob) -> ShardFile:
    """Write one tar file; it appears under its name only when it is complete."""
    with replacing(job.output / job.name) as partial:
        return write_shard((read_sample(job.samples, key) for key in job.keys), partial, job.head, name=job.name)
