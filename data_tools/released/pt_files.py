"""One .pt file of the authors' layout: loaded without running anything in it, its values taken out and checked."""

import io
import math
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_tools.verb.lists import RejectedError

_PRECISIONS = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
_AGAIN = "copy it again or make it again"
_CODE = re.compile(r"nsupported (?:global: )?GLOBAL (\S+)|nsupported class (\S+)")
_ADVICE = ("Weights only load failed", "In PyTorch", "Please file", "Check the doc")
# What torch.load raises for bytes that are no such file; tests change bytes of real ones to look for others.
_BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)


class RefusedFileError(RejectedError):
    """A file because of which an item is left out."""

    def __init__(self, reason: str, detail: str, file: str) -> None:
        """Keep reason, sentence and file."""
        super().__init__(reason, detail)
        self.file = file


@dataclass(frozen=True)
class PtFile:
    """The dict that a .pt file holds.

    Attributes:
        values: its content.
        shown: how reports call the file.
    """

    values: Mapping[str, Any]
    shown: str

    @classmethod
    def read(cls, path: Path, shown: str) -> "PtFile":
        """Load a file.

        Raises:
            RefusedFileError: when it cannot be read (unreadable), asks for code to be run (forbidden_pickle), or
                holds no dict (wrong_keys).
        """
        try:
            content = path.read_bytes()
            _refuse_changed_bytes(content)
            with warnings.catch_warnings(action="ignore"):  # about changed pickles; they end in an error anyway
                values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except _BROKEN as error:
            code = _CODE.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
            if code is not None:
                detail = f"{shown} asks for {code[1] or code[2]}, which is code and no data; do not load it"
                raise RefusedFileError("forbidden_pickle", detail, shown) from error
            cause = _cause(error)
            raise RefusedFileError("unreadable", f"{shown} cannot be read ({cause}); {_AGAIN}", shown) from error
        if not isinstance(values, dict):
            detail = f"{shown} holds a {type(values).__name__}, a dict with 'latents' or prompt features is needed"
            raise RefusedFileError("wrong_keys", f"{detail}; {_AGAIN}", shown)
        return cls(values, shown)

    def refused(self, reason: str, what: str) -> RefusedFileError:
        """Return the error for something wrong with this file."""
        return RefusedFileError(reason, f"{self.shown} {what}; {_AGAIN}", self.shown)

    def tensor(self, key: str, n_axes: tuple[int, ...]) -> Tensor:
        """Return a floating-point tensor that is finite and has one of the numbers of axes.

        Raises:
            RefusedFileError: wrong_keys, wrong_dtype, wrong_shape or not_finite.
        """
        tensor = self._any_tensor(key, n_axes)
        if tensor.dtype not in _PRECISIONS:
            raise self.refused("wrong_dtype", f"has '{key}' in {_short(tensor.dtype)}, floating point is needed")
        # the extremes of a tensor with NaN are NaN; looking at them alone takes a fifth of the time
        if tensor.numel() and not torch.isfinite(torch.stack(tensor.aminmax()).float()).all():
            n_bad = int((~torch.isfinite(tensor.float())).sum())
            raise self.refused("not_finite", f"has {n_bad} values in '{key}' that are not finite in float32")
        return tensor

    def mask(self, key: str, length: int) -> Tensor:
        """Return a mask (L,) as bool: padding first, then at least one token.

        Raises:
            RefusedFileError: wrong_keys, wrong_dtype, wrong_shape or wrong_mask.
        """
        tensor = self._any_tensor(key, (1,))
        if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
            raise self.refused("wrong_dtype", f"has '{key}' in {_short(tensor.dtype)}, whole numbers are needed")
        if tensor.shape[0] != length:
            raise self.refused("wrong_shape", f"has '{key}' of {tensor.shape[0]} tokens beside features of {length}")
        values = tensor.long()
        if not bool(((values == 0) | (values == 1)).all()) or bool((values.diff() < 0).any()) or not bool(values.any()):
            raise self.refused("wrong_mask", f"has '{key}' that is not zeros for the padding followed by ones")
        return values.bool()

    def number(self, key: str) -> float | None:
        """Return a number, None when the key is missing.

        Raises:
            RefusedFileError: wrong_keys when it is something else.
        """
        value = self.values.get(key)
        if isinstance(value, Tensor) and value.numel() == 1 and value.device.type == "cpu":
            value = value.item()
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.refused("wrong_keys", f"has '{key}' {value!r:.40}, a number is needed")
        return value

    def _any_tensor(self, key: str, n_axes: tuple[int, ...]) -> Tensor:
        if key not in self.values:
            has = ", ".join(sorted(map(str, self.values))[:8]) or "nothing"
            raise self.refused("wrong_keys", f"has no '{key}' (it has {has})")
        value = self.values[key]
        if not isinstance(value, Tensor) or value.layout is not torch.strided or value.device.type != "cpu":
            raise self.refused("wrong_keys", f"has '{key}' that is no plain tensor but {type(value).__name__}")
        if value.is_quantized:
            raise self.refused("wrong_dtype", f"has '{key}' in {_short(value.dtype)}, floating point is needed")
        if value.ndim not in n_axes:
            wanted = " or ".join(map(str, n_axes))
            raise self.refused("wrong_shape", f"has '{key}' of shape {tuple(value.shape)}, {wanted} axes are needed")
        if value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise self.refused("wrong_shape", f"has '{key}' of shape {tuple(value.shape)} but fewer values stored")
        return value.detach()


def _refuse_changed_bytes(content: bytes) -> None:
    """Raise ValueError when a checksum inside the file differs; torch.load does not compare them."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            wrong = parts.testzip()
        if wrong is not None:
            raise ValueError(f"its part {wrong} has another checksum than was stored")


def _cause(error: BaseException) -> str:
    """Return what went wrong in one line, without torch's advice to load the file in the unsafe way."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith(_ADVICE)]
    return lines[0].rstrip(".") if lines else type(error).__name__


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
