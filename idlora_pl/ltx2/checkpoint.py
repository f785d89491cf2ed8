"""Weights on disk: tensors of safetensors files, component folders of a diffusers checkpoint, and how two sets differ.

Names and shapes are there at once, weights one by one when they are asked for. A component has a `config.json` that its
weights must fit. Networks may visit another device for a while.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from idlora_pl.files import read_json

if TYPE_CHECKING:
    from diffusers import ModelMixin

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)
_WEIGHTS = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class Stored:
    """A tensor that has not been read.

    Attributes:
        path: the file that holds it.
        name: its name there.
        shape: its shape.
    """

    path: Path
    name: str
    shape: tuple[int, ...]


def read_header(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """Read the header of a file: its tensors by name, and its metadata.

    Raises:
        ValueError: when it is no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            tensors = {name: Stored(path, name, tuple(file.get_slice(name).get_shape())) for name in names}
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: no safetensors file ({error}); pass weights of the preset") from error


def as_floats(path: Path, name: str, tensor: Tensor) -> Tensor:
    """Return a LoRA's tensor in a dtype to compute with: of 8 bits it becomes bfloat16, which holds it exactly.

    Raises:
        ValueError: when it holds no numbers by themselves, as quantised weights do.
    """
    if tensor.dtype in _EIGHT_BITS:
        return tensor.to(torch.bfloat16)
    if tensor.dtype not in _FLOATS:
        stored = str(tensor.dtype).removeprefix("torch.")
        raise ValueError(f"{path}: {name} is stored as {stored}; pass a LoRA in float32, float16, bfloat16 or fp8")
    return tensor


def folder_tensors(folder: Path) -> dict[str, Stored]:
    """Find the tensors of a diffusers model folder, in one file or in the files that its index names.

    Raises:
        ValueError: when the weights, or one of their files, are missing.
    """
    index = folder / f"{_WEIGHTS}.index.json"
    files: Iterable[str] = [_WEIGHTS]
    if index.is_file():
        files = sorted(set(read_json(index)["weight_map"].values()))
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder}: {', '.join(missing)} is missing; copy the folder again")
    return {name: tensor for file in files for name, tensor in read_header(folder / file)[0].items()}


def read_tensors(sources: Mapping[str, Stored], dtypes: Mapping[str, torch.dtype]) -> dict[str, Tensor]:
    """Read tensors one by one; those of the stored dtype stay mapped from the file instead of being copied.

    Args:
        sources: what to read, by the name that it gets.
        dtypes: what to read it as, by the same name.
    """
    found: dict[str, Tensor] = {}
    for path in sorted({source.path for source in sources.values()}):
        with safe_open(path, framework="pt") as file:
            for name, source in sources.items():
                if source.path == path:
                    found[name] = file.get_tensor(source.name).to(dtypes[name])
    return found


Folder = str | Path
Model = TypeVar("Model", bound="ModelMixin")


def require_components(folder: Folder, names: tuple[str, ...], marker: str = "config.json") -> None:
    """Check that a checkpoint folder holds the component folders, each with its `marker` file.

    Raises:
        ValueError: If the folder or any component is missing; all missing ones are named.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; give a diffusers checkpoint folder with {', '.join(names)}")
    missing = [name for name in names if not (root / name / marker).is_file()]
    if missing:
        raise ValueError(
            f"{root}: missing {', '.join(f'{name}/{marker}' for name in missing)}; a diffusers checkpoint "
            f"folder with {', '.join(names)} is needed"
        )


def read_config(folder: Folder, name: str) -> dict[str, object]:
    """Read `folder/name/config.json`.

    Raises:
        ValueError: If the file is not a JSON object in UTF-8.
    """
    path = Path(folder) / name / "config.json"
    config = read_json(path)
    if not isinstance(config, dict):
        raise ValueError(f"{path}: holds a {type(config).__name__}, not an object; copy the file again")
    return config


def full_config(cls: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments of a diffusers class: the given ones that it knows, and its defaults for the rest."""
    parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    defaults = {each.name: each.default for each in parameters if each.name != "self"}
    return {name: given.get(name, default) for name, default in defaults.items()}


def check_config(place: Path, found: Mapping[str, Any], cls: type, needed: Mapping[str, Any], preset: str) -> None:
    """Compare the config.json of a component with the arguments that a preset builds it with.

    Raises:
        ValueError: when they differ; the first differing keys are named.
    """
    told, wanted = full_config(cls, found), full_config(cls, needed)
    differing = [name for name, value in wanted.items() if _plain(told[name]) != _plain(value)]
    wrong = [f"{name} = {told[name]!r}, not {wanted[name]!r}" for name in differing]
    class_name = found.get("_class_name", cls.__name__)
    if class_name != cls.__name__:
        wrong.append(f"_class_name = {class_name!r}, not {cls.__name__!r}")
    if wrong:
        raise ValueError(
            f"{place}: config.json is not that of preset {preset!r}: {listed(wrong)}; "
            "pass the preset that made the folder"
        )


def _plain(value: object) -> object:
    """A value as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(value))


def load_component(cls: type[Model], folder: Folder, name: str, dtype: torch.dtype | None = None) -> Model:
    """Load `folder/name` as a diffusers model without network access; every weight must be there and fit.

    Raises:
        ValueError: If no weights are there, or if keys are missing or left over.
    """
    path = Path(folder) / name
    try:
        model, report = cls.from_pretrained(
            str(path),
            torch_dtype=dtype,
            output_loading_info=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
        )
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{path}: the weights cannot be read as {cls.__name__} ({reason}); copy the folder again"
        ) from error
    wrong = {kind: report.get(f"{kind}_keys", []) for kind in ("missing", "unexpected", "mismatched")}
    if any(wrong.values()):
        parts = [f"{len(keys)} {kind} keys such as {keys[0]}" for kind, keys in wrong.items() if keys]
        raise ValueError(f"{path}: the weights do not fit config.json ({'; '.join(parts)}); copy the folder again")
    return model


SHOWN = 3


class Shaped(Protocol):
    """Anything with a shape: a tensor, or what stands for one."""

    @property
    def shape(self) -> Collection[int]:
        """The sizes of its axes."""
        ...


def listed(names: Iterable[str], shown: int = SHOWN) -> str:
    """Name the first few of some names in sorted order, and count the rest.

    Example:
        >>> listed(["d", "a", "c", "b"])
        'a, b, c and 1 more'
    """
    ordered = sorted(names)
    rest = f" and {len(ordered) - shown} more" if len(ordered) > shown else ""
    return ", ".join(ordered[:shown]) + rest


def differences(found: Mapping[str, Shaped], needed: Mapping[str, Shaped]) -> str:
    """Say which tensors are missing, which are unexpected and which have another shape; "" when all is well.

    Example:
        >>> import torch
        >>> differences({"a": torch.zeros(2), "c": torch.zeros(1)}, {"a": torch.zeros(3), "b": torch.zeros(1)})
        '1 missing: b; 1 unexpected: c; 1 of another shape: a is (2,), not (3,)'
    """
    shapes = [
        f"{name} is {tuple(found[name].shape)}, not {tuple(needed[name].shape)}"
        for name in found.keys() & needed.keys()
        if tuple(found[name].shape) != tuple(needed[name].shape)
    ]
    kinds = {
        "missing": needed.keys() - found.keys(),
        "unexpected": found.keys() - needed.keys(),
        "of another shape": shapes,
    }
    return "; ".join(f"{len(names)} {kind}: {listed(names)}" for kind, names in kinds.items() if names)


class Movable(nn.Module):
    """A module that lives on one device and visits another one for the time of a `with` block."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @contextmanager
    def on(self, device: str | torch.device) -> Iterator[Self]:
        """Move to `device` inside the `with` block and back afterwards, also after an error."""
        home = self.device
        self.to(device)
        try:
            yield self
        finally:
            self.to(home)
            if torch.device(device).type == "cuda":
                torch.cuda.empty_cache()
