"""What makes a weaker twin of the model: perturbed self-attention in some blocks, and isolated modalities.

Letters: B batch.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

Modality = Literal["video", "audio"]
Modalities = Literal["both", "video", "audio"]


@dataclass(frozen=True)
class Perturbation:
    """How one call of the model is weakened (reference: guidance/perturbations.py; spec sections 2.3 and 4.4).

    Attributes:
        blocks: blocks whose self-attention is perturbed (spatio-temporal guidance). What that means is the base
            model's: it contributes nothing (LTX-2 19B), or its value projection alone (LTX-2.3).
        modalities: whose self-attention; "both" is the reference's `stg_av`, "video" its `stg_v`.
        isolate: whether audio and video ignore each other in every block.
        samples: (B,) bool, which samples of the batch are perturbed; None means all.

    Raises:
        ValueError: when a value is no choice or samples is no (B,) bool tensor.

    Example:
        >>> Perturbation(blocks=(29,), modalities="video").reaches(29, "audio")
        False
    """

    blocks: tuple[int, ...] = ()
    modalities: Modalities = "both"
    isolate: bool = False
    samples: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse a value that is no choice."""
        if self.modalities not in get_args(Modalities):
            raise ValueError(f"modalities must be one of {', '.join(get_args(Modalities))}; got {self.modalities!r}")
        samples = self.samples
        if samples is not None and (samples.ndim != 1 or samples.dtype != torch.bool):
            raise ValueError(f"samples must be (B,) bool; got {tuple(samples.shape)} {samples.dtype}")

    def reaches(self, block: int, modality: Modality) -> bool:
        """Whether the self-attention of a modality in a block is perturbed (in any sample)."""
        return block in self.blocks and self.modalities in ("both", modality)

    def for_batch(self, batch: int) -> "Perturbation":
        """The same for B samples, with `samples` gone where they are all or none.

        Raises:
            ValueError: when samples are those of another batch size.
        """
        if self.samples is None:
            return self
        if self.samples.shape != (batch,):
            raise ValueError(f"perturbation.samples must hold {batch} values like the batch; got {len(self.samples)}")
        if not self.samples.any():
            return UNPERTURBED
        return replace(self, samples=None) if self.samples.all() else self


UNPERTURBED = Perturbation()
