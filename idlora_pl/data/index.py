"""What a shard set holds: index.json, read, written and compared with samples."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from idlora_pl.data.latents import DTYPES
from idlora_pl.data.samples import PairSample, ShardError

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
