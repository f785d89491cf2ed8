"""One training pair, a batch of them, and the two files that hold a pair inside a shard.

Tensors are taken out of the bytes of a safetensors file without copying them: `safetensors.torch.load` copies every
tensor, which makes reading a shard three to five times slower than reading its tar; so the header is read here. It is
checked as strictly as the library checks it, and the tests compare the two on valid, damaged and random files.

Letters: B batch, C channels, F H W the video latent grid, T target and R reference audio steps, M frequency
bins, L text tokens, D1 D2 text widths.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from idlora_pl.method.tokens import TextFeatures

TENSORS_FILE = "latents.safetensors"
META_FILE = "meta.json"
_AGAIN = "write the shard again with data_tools.write_shards"


class ShardError(ValueError):
    """A shard set cannot be read or written; the message names shard and clip and says the fix."""


@dataclass(frozen=True, eq=False)
class PairSample:
    """A target clip, the voice reference and the prompt, encoded.

    Attributes:
        target_video: (C, F, H, W) video latents.
        target_audio: (C, T, M) audio latents.
        reference: (C, R, M) audio latents of the reference voice.
        text: text features of one prompt: (L, D1), (L, D2), (L,).
        meta: JSON values; "key" names the sample within its shard set, "speaker" and "prompt" are usual;
            "target_tokens" and "reference_tokens" are there when audio is padded with zeros at its end, and say
            how many of T and R are data.
    """

    target_video: Tensor
    target_audio: Tensor
    reference: Tensor
    text: TextFeatures
    meta: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Name of the sample within its shard set."""
        return str(self.meta["key"])

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors under the names that they have in a shard."""
        return {
            "target_video": self.target_video,
            "target_audio": self.target_audio,
            "reference": self.reference,
            "text_video": self.text.video,
            "text_audio": self.text.audio,
            "text_mask": self.text.mask,
        }


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Pairs of equal shapes, stacked.

    Attributes:
        target_video: (B, C, F, H, W) video latents.
        target_audio: (B, C, T, M) audio latents.
        reference: (B, C, R, M) audio latents of the reference voices.
        text: text features: (B, L, D1), (B, L, D2), (B, L).
        meta: the `meta` of each pair.
    """

    target_video: Tensor
    target_audio: Tensor
    reference: Tensor
    text: TextFeatures
    meta: list[dict[str, Any]]

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.meta)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "PairBatch":
        """Return the batch on another device, every tensor in the precision in which it was stored."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "PairBatch":
        """Return the batch in page-locked memory, for copies to a GPU that do not wait."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "PairBatch":
        text = TextFeatures(change(self.text.video), change(self.text.audio), change(self.text.mask))
        video, audio, reference = map(change, (self.target_video, self.target_audio, self.reference))
        return PairBatch(video, audio, reference, text, self.meta)


def collate(samples: Sequence[PairSample]) -> PairBatch:
    """Stack pairs of one shard set; their shapes are equal, so nothing is padded."""
    return PairBatch(
        torch.stack([sample.target_video for sample in samples]),
        torch.stack([sample.target_audio for sample in samples]),
        torch.stack([sample.reference for sample in samples]),
        TextFeatures(
            torch.stack([sample.text.video for sample in samples]),
            torch.stack([sample.text.audio for sample in samples]),
            torch.stack([sample.text.mask for sample in samples]),
        ),
        [dict(sample.meta) for sample in samples],
    )


def encode_sample(sample: PairSample) -> dict[str, bytes]:
    """Return the two files of a pair by name; equal pairs give equal bytes.

    Text that is the same for both modalities (the 19B model) is stored once.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sample.tensors().items()}
    video, audio = tensors["text_video"], tensors["text_audio"]
    if video.dtype == audio.dtype and torch.equal(video, audio):
        del tensors["text_audio"]
    meta = json.dumps(dict(sample.meta), ensure_ascii=False, sort_keys=True)
    return {TENSORS_FILE: save(tensors), META_FILE: meta.encode()}


def decode_sample(files: Mapping[str, bytes | memoryview], name: str) -> PairSample:
    """Return the pair whose two files are given; nothing is unpickled.

    Args:
        files: {`latents.safetensors`: bytes, `meta.json`: bytes}; the tensors share the memory of a memoryview.
        name: shard and clip, for the error message.

    Raises:
        ShardError: when a file is missing or cannot be decoded.
    """
    try:
        file = files[TENSORS_FILE]
        tensors = tensors_in(bytearray(file) if isinstance(file, bytes) else file)
        meta = _meta(files[META_FILE])
        text = TextFeatures(
            tensors["text_video"], tensors.get("text_audio", tensors["text_video"]), tensors["text_mask"]
        )
        return PairSample(tensors["target_video"], tensors["target_audio"], tensors["reference"], text, meta)
    except KeyError as error:
        raise ShardError(f"{name} lacks {error}; {_AGAIN}") from error
    except ValueError as error:
        raise ShardError(f"{name} cannot be decoded ({error}); {_AGAIN}") from error


def _meta(file: bytes | memoryview) -> dict[str, Any]:
    """Return the JSON object of a meta.json."""
    try:
        meta = json.loads(bytes(file))
    except RecursionError:
        raise ValueError(f"{META_FILE} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{META_FILE} is not JSON: {error}") from None
    if not isinstance(meta, dict) or not isinstance(meta.get("key"), str):
        raise ValueError(f"{META_FILE} is no JSON object with a key")
    return meta


_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPES = frozenset(str(dtype).removeprefix("torch.") for dtype in _DTYPES.values())
"""Names of the precisions that a sample may have, as torch has them."""
_LENGTH_BYTES = 8
Entry = tuple[str, torch.dtype, tuple[int, ...], int]
"""Name, precision, shape and first byte of a tensor."""
MAX_HEADER_BYTES = 1 << 20
"""A sample has six tensors, whose header takes less than 1 kB."""


def tensors_in(file: bytearray | memoryview) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; they share its memory, and change with it.

    Args:
        file: the whole file.

    Raises:
        ValueError: when it is no safetensors file, or its tensors do not fill it exactly.

    Example:
        >>> from safetensors.torch import save
        >>> tensors_in(bytearray(save({"one": torch.ones(2)})))
        {'one': tensor([1., 1.])}
    """
    n_header = int.from_bytes(file[:_LENGTH_BYTES], "little")
    begin = _LENGTH_BYTES + n_header
    if len(file) < _LENGTH_BYTES or n_header > MAX_HEADER_BYTES or begin > len(file):
        raise ValueError(f"its header claims {n_header} bytes, the file has {len(file)}")
    entries = _entries(bytes(file[_LENGTH_BYTES:begin]))
    end = begin + sum(dtype.itemsize * math.prod(shape) for _, dtype, shape, _ in entries)
    if end != len(file):
        raise ValueError(f"its tensors end at byte {end}, the file has {len(file)}")
    tensors: dict[str, Tensor] = {}
    for name, dtype, shape, first in entries:
        if 0 in shape:
            tensors[name] = torch.empty(shape, dtype=dtype)
            continue
        n_values = math.prod(shape)
        tensors[name] = torch.frombuffer(file, dtype=dtype, count=n_values, offset=begin + first).view(shape)
        if dtype == torch.bool and bytes(file[begin + first : begin + first + n_values]).strip(b"\0\1"):
            raise ValueError(f"tensor {name!r:.80} holds bytes that are no truth values")
    return tensors


@lru_cache(maxsize=8)
def _entries(header: bytes) -> tuple[Entry, ...]:
    """Return the tensors that a header names, in the order of the file; the samples of a set share one header."""
    try:
        found = json.loads(header, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("its header is no JSON object")
    found.pop("__metadata__", None)
    entries: list[Entry] = []
    end = 0
    for (first, last), name, dtype, shape in sorted((_entry(*item) for item in found.items()), key=itemgetter(0, 1)):
        if first != end or last - first != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"tensor {name!r:.80} of shape {shape} does not fit bytes {first} to {last}")
        entries.append((name, dtype, shape, first))
        end = last
    return tuple(entries)


def _entry(name: str, value: Any) -> tuple[tuple[int, int], str, torch.dtype, tuple[int, ...]]:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name!r:.80} has no dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"tensor {name!r:.80} has the unknown dtype {dtype!r:.40}")
    lists_of_sizes = all(isinstance(sizes, list) and all(map(_is_size, sizes)) for sizes in (shape, offsets))
    if not lists_of_sizes or len(offsets) != 2 or len(shape) > 8:
        raise ValueError(f"tensor {name!r:.80} has an unusable shape or data_offsets")
    return (offsets[0], offsets[1]), name, _DTYPES[dtype], tuple(shape)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object of which no name is there twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("its header has a name twice")
    return found
