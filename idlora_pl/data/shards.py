"""A shard set: a folder of WebDataset tar files and an index.json that says what is in them.

    pairs-000000.tar    <key>.latents.safetensors, <key>.meta.json, <next key>. ...
    index.json          shapes and precision of every tensor, keys, sizes and sha256 of every shard

All samples of a set have the same shapes, so a batch needs no padding. Equal samples give equal bytes. A set that
was imported with padded audio tells the true lengths in the `meta` of every sample: "target_tokens" and
"reference_tokens"; without these keys nothing is padded.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
import webdataset as wds

from idlora_pl.data.samples import DTYPES, PairBatch, PairSample, ShardError, collate, decode_sample, encode_sample
from idlora_pl.files import replacing_folder

INDEX_NAME = "index.json"
INDEX_FORMAT = 1
_TAR = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.tar")
KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")
_LENGTHS = {"target_audio": "audio tokens", "reference": "reference tokens", "target_video": "latent frames"}


@dataclass(frozen=True)
class ShardFile:
    """One tar file of a set: name, keys in the order of the file, size and checksum."""

    name: str
    keys: tuple[str, ...]
    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardIndex:
    """What index.json says.

    Attributes:
        shards: the tar files.
        shapes: shape of every tensor of one sample.
        dtypes: precision of every tensor, such as "bfloat16".
        codecs: name of the base model or codecs that made the latents.
        settings: how the samples were made; free JSON values, for example {"duration_s": 4.84}.
    """

    shards: tuple[ShardFile, ...]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    codecs: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> tuple[int, ...]:
        """Samples in each shard."""
        return tuple(len(shard.keys) for shard in self.shards)

    @property
    def n_samples(self) -> int:
        """Samples in the whole set."""
        return sum(self.counts)

    def to_json(self) -> str:
        """Return the text of index.json."""
        head = {"format": INDEX_FORMAT, "n_samples": self.n_samples}
        return json.dumps(head | asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, source: str) -> "ShardIndex":
        """Read the text of index.json; `source` names it in the error message."""
        try:
            values = json.loads(text)
            if values["format"] != INDEX_FORMAT:
                raise ShardError(
                    f"{source} has format {values['format']}, this version reads {INDEX_FORMAT}; "
                    "write the shards again with data_tools.write_shards"
                )
            shards = tuple(ShardFile(**shard | {"keys": tuple(shard["keys"])}) for shard in values["shards"])
            shapes = {name: tuple(shape) for name, shape in values["shapes"].items()}
            _refuse_impossible(shards, shapes, values["dtypes"], source)
            return cls(shards, shapes, values["dtypes"], values["codecs"], values["settings"])
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ShardError(
                f"{source} is not the index of a shard set ({error}); write it with data_tools.write_shards"
            ) from error

    def check(self, sample: PairSample, name: str) -> None:
        """Raise ShardError when a sample has other shapes, another precision or lengths that the set cannot have."""
        for tensor_name, tensor in sample.tensors().items():
            expected, precision = self.shapes[tensor_name], self.dtypes[tensor_name]
            if tensor.shape != expected:
                raise ShardError(f"{name} has {self._difference(tensor_name, tuple(tensor.shape), expected)}")
            if tensor.dtype != getattr(torch, precision):
                raise ShardError(
                    f"{name} has {tensor_name} in {str(tensor.dtype)[6:]}, shard set has {precision}; "
                    "re-run data_tools.encode_clips with one --dtype"
                )
        for meta_name, tensor_name in (("target_tokens", "target_audio"), ("reference_tokens", "reference")):
            most = self.shapes[tensor_name][1]
            length = sample.meta.get(meta_name, most)
            if type(length) is not int or not 1 <= length <= most:
                raise ShardError(f"{name} has {meta_name} {length!r:.40}, expected 1 to {most}; write the set again")

    @property
    def n_sample_bytes(self) -> int:
        """Size of the tensors of one sample."""
        return sum(math.prod(shape) * getattr(torch, self.dtypes[name]).itemsize for name, shape in self.shapes.items())

    def _difference(self, name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
        """Say how a shape differs and which command makes it equal."""
        value = f"--duration {self.settings['duration_s']:g}" if "duration_s" in self.settings else "one --duration"
        fix = f"re-run data_tools.encode_clips with {value}"
        length_only = len(shape) == len(expected) and shape[:1] + shape[2:] == expected[:1] + expected[2:]
        if name in _LENGTHS and length_only:
            return f"{shape[1]} {_LENGTHS[name]}, shard set has {expected[1]}; {fix}"
        return f"{name} of shape {shape}, shard set has {expected}; {fix}, --size and --base"


def _refuse_impossible(
    shards: tuple[ShardFile, ...], shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, str], source: str
) -> None:
    """Raise ShardError for names, keys, shapes and precisions that no shard set has."""
    if not shards:
        raise ShardError(f"{source} lists no shard; write it with data_tools.write_shards")
    for shard in shards:
        if not isinstance(shard.name, str) or not _TAR.fullmatch(shard.name):
            raise ShardError(f"{source} lists the shard {shard.name!r:.80}, which is no plain file name")
        bad = next((key for key in shard.keys if not isinstance(key, str) or not KEY.fullmatch(key)), None)
        if bad is not None or not shard.keys or len(set(shard.keys)) != len(shard.keys):
            fault = "no keys, or one twice" if bad is None else f"the unusable key {bad!r:.80}"
            raise ShardError(f"{source} lists {shard.name} with {fault}")
    for name, shape in shapes.items():
        if not all(type(size) is int and size > 0 for size in shape) or dtypes.get(name) not in DTYPES:
            raise ShardError(
                f"{source} says that {name} has shape {shape!r:.80} and precision {dtypes.get(name)!r:.40}"
            )


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
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ShardError(f"{folder} already holds something; remove it or choose another folder")
    with replacing_folder(folder) as partial:
        shards: list[ShardFile] = []
        taken: set[str] = set()
        stream = chain([first], stream)
        while part := list(islice(stream, samples_per_shard)):
            shards.append(write_shard(part, partial / f"pairs-{len(shards):06d}.tar", index, taken=taken))
        index = replace(index, shards=tuple(shards))
        (partial / INDEX_NAME).write_text(index.to_json())
    return index


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
