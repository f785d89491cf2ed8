"""Golden cases as files: NAME.json says what a case is, NAME.safetensors holds its numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from idlora_pl.parity.cases import Case, CaseError

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
