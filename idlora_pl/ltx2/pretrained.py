"""Component folders of a diffusers checkpoint: each with a `config.json` that its weights must fit."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin

from idlora_pl.files import read_json
from idlora_pl.ltx2.differences import listed

Folder = str | Path
Model = TypeVar("Model", bound=ModelMixin)


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
