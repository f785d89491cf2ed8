"""What comparing a case found: one difference a tensor, and remarks that cannot make it fail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from idlora_pl.parity.cases import Case


@dataclass(frozen=True)
class Difference:
    """How far one of our tensors is from the stored one.

    Attributes:
        name: the tensor, or the field of the JSON.
        error: largest absolute difference; divided by the largest stored value where `relative`.
        bound: what the case allows.
        relative: whether error and bound are relative.
    """

    name: str
    error: float
    bound: float
    relative: bool = False

    @property
    def passes(self) -> bool:
        """Whether the error is within the bound; an error that is no number is not."""
        return self.error <= self.bound

    @property
    def used(self) -> float:
        """The error as a multiple of its bound; infinite where the bound is 0 or the error no number."""
        return self.error / self.bound if self.bound and not math.isnan(self.error) else math.inf


@dataclass
class Findings:
    """The differences of one case, collected by its check.

    Attributes:
        case: the case.
        differences: one a compared tensor or field.
        remarks: sentences for people; they cannot make a case fail.
    """

    case: Case
    differences: list[Difference] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def tensor(
        self,
        name: str,
        ours: Tensor,
        *,
        bounds: Sequence[str] = (),
        bound: float | None = None,
        relative: bool = False,
    ) -> None:
        """Compare a stored tensor with ours.

        Args:
            name: of the stored tensor.
            ours: what our code makes of the case.
            bounds: keys of `tolerance` to look for, if it is an object.
            bound: what the error may be, where `tolerance` does not say it.
            relative: whether to divide by the largest stored value.

        Raises:
            CaseError: when the stored one is missing or has another shape.
        """
        stored = self.case.tensor(name, *ours.shape) if ours.ndim else self.case.tensor(name)
        if stored.shape != ours.shape:
            raise self.case.wrong_tensor(name, f"has shape {tuple(stored.shape)}; it must be a single number")
        error = distance(ours, stored)
        if relative and (size := stored.abs().max().item()):
            error /= size
        allowed = self.case.bound(name, *bounds) if bound is None else bound
        self.differences.append(Difference(name, error, allowed, relative))

    def number(self, name: str, ours: float, stored: float, bound: float = 0.0) -> None:
        """Compare a number of the JSON with ours."""
        self.differences.append(Difference(name, abs(ours - stored), bound))

    def equal(self, name: str, ours: object, stored: object) -> None:
        """Compare something of the JSON that is no number with ours; the error is 0 or infinite."""
        self.differences.append(Difference(name, 0.0 if ours == stored else float("inf"), 0.0))

    def pattern(self, name: str, ours: Tensor, stored: Tensor) -> None:
        """Compare where a stored mask hides something with where ours does; the error is the number of entries."""
        self.case.used.add(name)
        self.differences.append(Difference(name, float((ours != stored).sum()), 0.0))

    def remark(self, sentence: str) -> None:
        """Say something that cannot make the case fail."""
        self.remarks.append(sentence)

    def given(self, name: str, ours: Tensor, *, noise: float = 0.0) -> None:
        """Say by how much an input differs from what our code would make; inputs are taken as they are.

        Args:
            name: of the input.
            ours: what our code would make of the case's sizes.
            noise: a difference that is not worth a word.
        """
        stored = self.case.tensor(name)
        if ours.shape != stored.shape:
            self.remark(f"{name} is taken as given; ours would have the shape {tuple(ours.shape)}")
        elif not (error := distance(ours, stored)) <= noise:
            self.remark(f"{name} is taken as given; it differs from ours by {error:.2g}")


def distance(ours: Tensor, stored: Tensor) -> float:
    """Return the largest absolute difference of two tensors of one shape; nan where one of them is nan.

    Example:
        >>> distance(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]))
        0.5
    """
    if not ours.numel():
        return 0.0
    with torch.no_grad():
        return (ours.double() - stored.double()).abs().max().item()
