"""Golden cases: typed access to fields and tensors that names the file and the field which it cannot understand.

A case is NAME.json (what it is) beside NAME.safetensors (its numbers).

Letters: B batch, N tokens, C channels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

LAYOUTS = ("ltx2-19b", "ltx2.3-22b")


class CaseError(ValueError):
    """A case cannot be understood; the message names the file, the field or tensor, and what was expected.

    Attributes:
        file: name of the file.
        field: the field of the JSON or the tensor that is wrong or missing.
        reason: what is wrong with it, and what was expected.
    """

    def __init__(self, file: str, field: str, reason: str) -> None:
        super().__init__(f"{file}: '{field}' {reason}")
        self.file, self.field, self.reason = file, field, reason


class Case:
    """One golden case: its fields, its tensors, and which tensors were read so far.

    Attributes:
        path: the JSON file.
        fields: what it holds.
        tensors: the tensors of the file beside it.
        used: names of the tensors that a check has read.
    """

    def __init__(self, path: Path, fields: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self.path, self.fields, self.tensors = path, fields, tensors
        self.used: set[str] = set()

    @property
    def name(self) -> str:
        """Name of the case: that of its file."""
        return self.path.stem

    def wrong(self, field: str, reason: str) -> CaseError:
        """Return the error that a field of the JSON is not as it must be."""
        return CaseError(self.path.name, field, reason)

    def wrong_tensor(self, name: str, reason: str) -> CaseError:
        """Return the error that a tensor is not as it must be."""
        return CaseError(self.path.with_suffix(".safetensors").name, name, reason)

    def field(self, name: str) -> Any:
        """Return a field; dots lead into objects, as in `dims.fps`, whose keys may hold dots, too."""
        found = _look_up(self.fields, name)
        if found is None:
            raise self.wrong(name, "is missing")
        return found[0]

    def has_field(self, name: str) -> bool:
        """Whether there is such a field."""
        return _look_up(self.fields, name) is not None

    def choice(self, name: str, choices: Collection[str]) -> str:
        """Return a field that must be one of some words."""
        value = self.field(name)
        if not isinstance(value, str) or value not in choices:
            raise self.wrong(name, f"is {value!r}; it must be one of {', '.join(choices)}")
        return value

    def text(self, name: str) -> str:
        """Return a field that must be a text."""
        value = self.field(name)
        if not isinstance(value, str):
            raise self.wrong(name, f"is {value!r}; it must be a text")
        return value

    def flag(self, name: str) -> bool:
        """Return a field that must be true or false."""
        value = self.field(name)
        if not isinstance(value, bool):
            raise self.wrong(name, f"is {value!r}; it must be true or false")
        return value

    def number(self, name: str, *, least: float = -math.inf) -> float:
        """Return a field that must be a finite number."""
        value = self.field(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
            limit = "" if least == -math.inf else f" of at least {least:g}"
            raise self.wrong(name, f"is {value!r}; it must be a number{limit}")
        return float(value)

    def positive(self, name: str) -> float:
        """Return a field that must be a number above 0, such as a frame rate."""
        value = self.number(name)
        if value <= 0:
            raise self.wrong(name, f"is {value!r}; it must be above 0")
        return value

    def whole(self, name: str, *, least: int = 0) -> int:
        """Return a field that must be a whole number."""
        value = self.number(name, least=least)
        if value != int(value):
            raise self.wrong(name, f"is {value!r}; it must be a whole number")
        return int(value)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Return a field that must be an object."""
        value = self.field(name)
        if not isinstance(value, Mapping):
            raise self.wrong(name, f"is {value!r}; it must be an object")
        return value

    def items(self, name: str, kind: type[int] | type[float] | type[str]) -> list[Any]:
        """Return a field that must be a list of whole numbers, numbers or texts."""
        value = self.field(name)
        allowed: tuple[type, ...] = (int, float) if kind is float else (kind,)
        if not isinstance(value, list) or any(isinstance(v, bool) or not isinstance(v, allowed) for v in value):
            raise self.wrong(name, f"is {value!r}; it must be a list of {kind.__name__}")
        return value

    @property
    def kind(self) -> str:
        """What kind of case this is."""
        return self.text("kind")

    @property
    def layout(self) -> str:
        """Which architecture and conventions it belongs to."""
        return self.choice("layout", LAYOUTS)

    def bound(self, tensor: str, *names: str) -> float:
        """Return the bound on the difference of a tensor.

        Args:
            tensor: its name. Where `tolerance` is an object, this name or a part of it wins.
            names: keys to take otherwise, the first one that is there; then "default".
        """
        tolerance = self.field("tolerance")
        if not isinstance(tolerance, Mapping):
            return self.number("tolerance", least=0)
        for key in (tensor, *tensor.split("."), *names, "default"):
            if key in tolerance:
                return self.number(f"tolerance.{key}", least=0)
        raise self.wrong("tolerance", f"has no bound for {tensor}; add one of {', '.join((*names, 'default'))}")

    def has(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return name in self.tensors

    def names(self, prefix: str) -> list[str]:
        """Return the names of the tensors that start like this, in the order of the alphabet."""
        return sorted(name for name in self.tensors if name.startswith(prefix))

    def tensor(self, name: str, *shape: int | None) -> Tensor:
        """Return a tensor.

        Args:
            name: of the tensor.
            shape: what its shape must be; None stands for any size, no argument for any shape.
        """
        if name not in self.tensors:
            raise self.wrong_tensor(name, "is missing")
        tensor = self.tensors[name]
        found = tuple(tensor.shape)
        fits = len(found) == len(shape) and all(n is None or n == m for n, m in zip(shape, found, strict=True))
        if shape and not fits:
            needed = ", ".join("any" if size is None else str(size) for size in shape)
            raise self.wrong_tensor(name, f"has shape {found}; it must be ({needed})")
        self.used.add(name)
        return tensor

    def file(self, name: str) -> Path:
        """Return the file in the same folder that a field names."""
        path = self.path.parent / self.text(name)
        if not path.is_file():
            raise self.wrong(name, f"names {self.text(name)}; there is no such file in {self.path.parent}")
        return path


def _look_up(value: Any, name: str) -> tuple[Any] | None:
    """Return (what a dotted name leads to,), or None if it leads nowhere."""
    if not isinstance(value, Mapping):
        return None
    if name in value:
        return (value[name],)
    ends = [index for index, letter in enumerate(name) if letter == "." and name[:index] in value]
    found = (_look_up(value[name[:end]], name[end + 1 :]) for end in ends)
    return next((one for one in found if one is not None), None)


UNLISTED = ("weights", "adapter_file", "adapter_keymap")
"""Kinds whose JSON has no list of tensors: the first two are a whole file, the third has no tensors."""


def read_case(path: Path) -> Case:
    """Read a case and check that its tensors are those that its JSON lists.

    Args:
        path: the JSON file.

    Raises:
        CaseError: when a file, or a tensor that the JSON lists, is missing or damaged or of another shape or dtype.
    """
    case = Case(path, read_fields(path), {})
    if case.kind == "adapter_keymap":
        return case
    case = Case(path, case.fields, read_tensors(path.with_suffix(".safetensors")))
    if case.kind not in UNLISTED:
        _check_listed(case)
    return case


def read_fields(path: Path) -> Mapping[str, Any]:
    """Read the JSON file of a case.

    Raises:
        CaseError: when it is missing or damaged, or holds no object.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise CaseError(path.name, "JSON", f"cannot be read ({error})") from error
    if not isinstance(fields, dict):
        raise CaseError(path.name, "JSON", f"is {type(fields).__name__}; it must be an object")
    return fields


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CaseError: when it is missing or damaged.
    """
    if not path.is_file():
        raise CaseError(path.name, "file", f"is missing in {path.parent}")
    try:
        return load_file(path)
    except (SafetensorError, OSError, LookupError, ValueError) as error:
        raise CaseError(path.name, "file", f"is no safetensors file ({error})") from error


def _check_listed(case: Case) -> None:
    for name in case.mapping("tensors"):
        listed = case.fields["tensors"][name]
        if not isinstance(listed, Mapping) or not isinstance(listed.get("shape"), Sequence):
            raise case.wrong(f"tensors.{name}", f"is {listed!r}; it must have a shape and a dtype")
        if name not in case.tensors:
            raise case.wrong_tensor(name, f"is missing; {case.path.name} lists it")
        tensor = case.tensors[name]
        if list(tensor.shape) != list(listed["shape"]):
            raise case.wrong_tensor(name, f"has shape {list(tensor.shape)}; {case.path.name} lists {listed['shape']}")
        if str(tensor.dtype) != listed.get("dtype"):
            raise case.wrong_tensor(name, f"is {tensor.dtype}; {case.path.name} lists {listed.get('dtype')}")
