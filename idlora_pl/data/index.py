"""What a shard set holds: index.json, read, written and compared with samples."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from idlora_pl.data.samples import PairSample, ShardError

INDEX_NAME = "index.json"
INDEX_FORMAT = 1
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
            return cls(shards, shapes, values["dtypes"], values["codecs"], values["settings"])
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ShardError(
                f"{source} is not the index of a shard set ({error}); write it with data_tools.write_shards"
            ) from error

    def check(self, sample: PairSample, name: str) -> None:
        """Raise ShardError when a sample has other shapes or another precision than the set."""
        for tensor_name, tensor in sample.tensors().items():
            shape, expected = tuple(tensor.shape), self.shapes[tensor_name]
            precision = str(tensor.dtype).removeprefix("torch.")
            if shape != expected:
                raise ShardError(f"{name} has {self._difference(tensor_name, shape, expected)}")
            if precision != self.dtypes[tensor_name]:
                raise ShardError(
                    f"{name} has {tensor_name} in {precision}, shard set has {self.dtypes[tensor_name]}; "
                    "re-run data_tools.encode_clips with one --dtype"
                )

    def _difference(self, name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
        """Say how a shape differs and which command makes it equal."""
        value = f"--duration {self.settings['duration_s']:g}" if "duration_s" in self.settings else "one --duration"
        fix = f"re-run data_tools.encode_clips with {value}"
        length_only = len(shape) == len(expected) and shape[:1] + shape[2:] == expected[:1] + expected[2:]
        if name in _LENGTHS and length_only:
            return f"{shape[1]} {_LENGTHS[name]}, shard set has {expected[1]}; {fix}"
        return f"{name} of shape {shape}, shard set has {expected}; {fix}, --size and --base"
