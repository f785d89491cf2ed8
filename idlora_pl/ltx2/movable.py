"""Networks that visit another device for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import nn


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
