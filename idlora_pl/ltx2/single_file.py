"""One safetensors file of the authors, with every network of a release but the language model.

Only the header is read until a network is asked for; its tensors are then mapped from the file, one by one, and kept
as they are when the dtype is the stored one, so that 38 GB never lie in memory twice.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from idlora_pl.ltx2.differences import differences, listed
from idlora_pl.ltx2.header_config import contradictions, silent
from idlora_pl.ltx2.key_map import PARTS, Part, diffusers_names, part_of
from idlora_pl.ltx2.stored import Stored, read_header, read_tensors


@dataclass(frozen=True)
class SingleFile:
    """What the header of a file of the authors says.

    Attributes:
        path: the file.
        tensors: what it holds, by the authors' names.
        config: the configuration of the release by network; {} when the header has none.
    """

    path: Path
    tensors: Mapping[str, Stored]
    config: Mapping[str, Any]

    @classmethod
    def opened(cls, path: Path) -> SingleFile:
        """Read the header of a file.

        Raises:
            ValueError: when it is no safetensors file, or its `config` is no JSON object.
        """
        tensors, metadata = read_header(path)
        try:
            config = json.loads(metadata.get("config", "{}"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: config in its header is not valid JSON ({error}); copy it again") from error
        if not isinstance(config, dict):
            raise ValueError(f"{path}: config in its header holds a {type(config).__name__}, not an object")
        strange = [name for name in tensors if part_of(name) is None]
        if 0 < len(strange) < len(tensors):
            warnings.warn(f"{path}: {len(strange)} tensors are of no known network: {listed(strange)}", stacklevel=3)
        return cls(path, tensors, config)

    @property
    def is_the_authors(self) -> bool:
        """Whether any tensor carries a name of the authors; files with diffusers' names do not."""
        return any(part_of(name) for name in self.tensors)

    def state(
        self, part: Part, expected: Mapping[str, Tensor], own: Mapping[str, Any], preset: str
    ) -> dict[str, Tensor]:
        """Read the weights of one network, after names, shapes and header were found to be those of a preset.

        Args:
            part: the network.
            expected: its state dict, for names, shapes and dtypes; its tensors may lie on "meta".
            own: constructor arguments of its diffusers class, all of them.
            preset: named in the messages.

        Returns:
            The tensors by diffusers' names, in the expected dtypes.

        Raises:
            ValueError: when the file has no such network, or not that of the preset.
        """
        sources = self._checked(part, expected, own, preset)
        return read_tensors(sources, {name: expected[name].dtype for name in sources})

    def _checked(
        self, part: Part, expected: Mapping[str, Tensor], own: Mapping[str, Any], preset: str
    ) -> dict[str, Stored]:
        try:
            sources = {new: self.tensors[name] for new, name in diffusers_names(self.tensors, part).items()}
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error
        if not sources:
            others = [each for each in PARTS if each != part and any(part_of(name) == each for name in self.tensors)]
            raise ValueError(
                f"{self.path}: holds no weights of {part}, only of {listed(others)}; pass the whole file of the release"
            )
        tensors, header = differences(sources, expected), listed(contradictions(self.config, part, own))
        wrong = [f"{where}: {what}" for where, what in (("header", header), ("tensors", tensors)) if what]
        if wrong:
            raise ValueError(
                f"{self.path}: {part}: not that of preset {preset!r} ({', '.join(wrong)}); "
                "pass the preset that the file was made for"
            )
        unsaid = silent(self.config, part, own) if self.config else [f"any setting of {part}"]
        if unsaid:
            warnings.warn(f"{self.path}: its header does not tell {listed(unsaid)}; the preset decides", stacklevel=4)
        return sources


def load_part(file: SingleFile, part: Part, network: nn.Module, preset: str, dtype: torch.dtype | None) -> None:
    """Give a diffusers network the weights of a file.

    Args:
        file: the file.
        part: which network it is.
        network: built by the preset; its parameters may lie on "meta".
        preset: named in the messages.
        dtype: of the weights; None is float32.

    Raises:
        ValueError: as `SingleFile.state`.
    """
    wanted = dtype or torch.float32
    expected = {name: weight.to(device="meta", dtype=wanted) for name, weight in network.state_dict().items()}
    network.load_state_dict(file.state(part, expected, dict(network.config), preset), assign=True)  # type: ignore[arg-type]
