"""How two sets of named tensors differ, in a few words for an error message."""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

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
