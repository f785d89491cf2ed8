"""Tensors inside the bytes of a safetensors file, taken without copying them.

`safetensors.torch.load` copies every tensor out of its file, which makes reading a shard three to five times slower
than reading its tar; so the header is read here. It is checked as strictly as the library checks it, and the tests
compare the two on valid, damaged and random files.
"""

import json
import math
from functools import lru_cache
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

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
