"""A folder of encoded samples, two files each, with the settings that made them; how they are spread over tar files."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from data_tools.verb.lists import Row, read_rows, write_rows
from idlora_pl.data.samples import META_FILE, TENSORS_FILE, PairSample, ShardError, decode_sample, encode_sample
from idlora_pl.data.shards import ShardFile, ShardIndex, is_key, write_shard
from idlora_pl.files import replacing

SETTINGS_NAME = "settings.json"
LIST_NAME = "samples.jsonl"
"""The list of the samples, there once all pairs of a list are encoded or rejected."""


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings that made a folder of samples; {} when it has none."""
    path = folder / SETTINGS_NAME
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def keep_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a folder of samples, or compare them with those of an earlier run.

    Raises:
        ValueError: when the folder was made with other settings.
    """
    earlier = read_settings(folder)
    if earlier:
        changed = [name for name in settings if earlier.get(name) != settings[name]]
        if changed:
            raise ValueError(
                f"{folder} was encoded with {changed[0]} {earlier.get(changed[0])}, now it is "
                f"{settings[changed[0]]}; choose a new folder or the same settings"
            )
        return
    with replacing(folder / SETTINGS_NAME) as partial:
        partial.write_text(json.dumps(settings, indent=1) + "\n")


def write_sample(sample: PairSample, folder: Path) -> None:
    """Write the two files of a pair; the second one, meta.json, says that both are complete."""
    files = encode_sample(sample)
    for suffix in (TENSORS_FILE, META_FILE):
        with replacing(folder / f"{sample.key}.{suffix}") as partial:
            partial.write_bytes(files[suffix])


def sample_exists(folder: Path, key: str) -> bool:
    """Say whether a sample is complete."""
    return all((folder / f"{key}.{suffix}").is_file() for suffix in (TENSORS_FILE, META_FILE))


def remove_sample(folder: Path, key: str) -> None:
    """Remove what an earlier run wrote of a pair that is left out now."""
    for suffix in (META_FILE, TENSORS_FILE):
        (folder / f"{key}.{suffix}").unlink(missing_ok=True)


def begin_list(folder: Path, pairs: str, keys: Iterable[str]) -> None:
    """Note that samples of a list of pairs are being written; those of other lists stay.

    Raises:
        ValueError: when another list has one of the keys.
    """
    others = _others(folder, pairs)
    taken = {row["key"]: row["pairs"] for row in others if "key" in row}
    for key in keys:
        if key in taken:
            raise ValueError(f"'{key}' is already a sample of {taken[key]} in {folder}; choose another folder")
    write_rows(folder / LIST_NAME, [*others, {"unfinished": pairs}])


def finish_list(folder: Path, pairs: str, keys: Iterable[str]) -> None:
    """Write down the samples of a list of pairs, beside those of other lists."""
    write_rows(folder / LIST_NAME, [*_others(folder, pairs), *({"key": key, "pairs": pairs} for key in keys)])


def _others(folder: Path, pairs: str) -> list[Row]:
    path = folder / LIST_NAME
    rows = read_rows(path, ()) if path.is_file() and path.stat().st_size else []
    return [row for row in rows if pairs not in (row.get("pairs"), row.get("unfinished"))]


def find_samples(folder: Path) -> list[str]:
    """Return the keys of the samples of a folder, sorted.

    Raises:
        ValueError: when the folder is missing, unfinished or empty, or lacks a sample of its list.
    """
    listed = folder / LIST_NAME
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the one that data_tools.encode_clips wrote")
    if not listed.is_file():
        raise ValueError(f"{folder} has no {LIST_NAME}, so it is not finished; run data_tools.encode_clips again")
    rows = read_rows(listed, ())
    for row in rows:
        if "unfinished" in row:
            raise ValueError(f"{folder} is not finished with {row['unfinished']}; run data_tools.encode_clips again")
    keys = sorted(str(row.get("key")) for row in rows)
    for key in keys:
        if not is_key(key):
            raise ValueError(f"{listed} has the key {key!r}; use letters, digits, _ and - (1 to 80)")
        for suffix in (TENSORS_FILE, META_FILE):
            if not (folder / f"{key}.{suffix}").is_file():
                raise ValueError(f"{folder} lacks {key}.{suffix}; run data_tools.encode_clips again")
    twice = [key for key, following in pairwise(keys) if key == following]
    if twice:
        raise ValueError(f"{listed} has '{twice[0]}' twice; give every pair its own key")
    return keys


def read_sample(folder: Path, key: str) -> PairSample:
    """Read one sample."""
    files = {suffix: (folder / f"{key}.{suffix}").read_bytes() for suffix in (TENSORS_FILE, META_FILE)}
    return decode_sample(files, f"{folder}: clip {key}")


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
