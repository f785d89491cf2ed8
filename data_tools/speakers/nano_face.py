"""Faces of the nano world as vectors: what differs between drawn people, and not with how they move their mouths.

Letters: N people, M mouths, F frames, P numbers of a small picture, D embedding size.
"""

from pathlib import Path

import torch
from scipy.linalg import eigh
from torch import Tensor, nn

from idlora_pl.metrics.clip_mean import ClipMean
from idlora_pl.metrics.face import FaceSimilarity
from idlora_pl.nano import face
from idlora_pl.nano.corpus import split_seed
from idlora_pl.nano.world import speaker
from idlora_pl.scorers.card import Card, Score

_SIDE, _N_PEOPLE, _N_MOUTHS, _SIZE = 16, 512, 6, 14
_ROUNDING = 1e-4
"""Variance of a pixel that says nothing: of the coding of videos."""


class NanoFaceEmbedder:
    """Fisher's discriminants of drawn faces; satisfies `metrics.embedders.FaceEmbedder`, without trained weights.

    512 people of the training split are drawn with six mouths each. Of the directions in which people differ most, in
    units of how much one person's pictures differ, the first 14 are taken: a nano face has 14 traits. On 400 clips of
    40 other people cosines of one person are at least 0.988 and of two at most 0.791.
    """

    def __init__(self) -> None:
        people = [speaker(split_seed("train", index)) for index in range(_N_PEOPLE)]
        rng = torch.Generator().manual_seed(0)
        mouth, width = (torch.rand(_N_PEOPLE, _N_MOUTHS, generator=rng) for _ in range(2))
        drawn = self._small(face.draw(people, mouth, width).flatten(0, 1)).view(_N_PEOPLE, _N_MOUTHS, -1).double()
        self.mean = drawn.mean((0, 1)).float()
        moving = (drawn - drawn.mean(1, keepdim=True)).flatten(0, 1)
        differing = drawn.mean(1) - drawn.mean((0, 1))
        within = moving.T @ moving / len(moving) + _ROUNDING * torch.eye(drawn.shape[2], dtype=drawn.dtype)
        size = drawn.shape[2]
        spread, axes = eigh(
            (differing.T @ differing / _N_PEOPLE).numpy(), within.numpy(), subset_by_index=(size - _SIZE, size - 1)
        )
        self.axes = torch.from_numpy(axes / spread**0.5).float()

    def _small(self, frames: Tensor) -> Tensor:
        """Return frames uint8 (F, 3, H, W) as small pictures (F, P) in [0, 1]."""
        return nn.functional.interpolate(frames.float() / 255, (_SIDE, _SIDE), mode="area").flatten(1)

    def embed(self, frames: Tensor) -> Tensor:
        """Embed frames uint8 (F, 3, H, W) of a nano face that fills them; returns (F, 14)."""
        return (self._small(frames) - self.mean) @ self.axes


def _build(_weights: Path) -> ClipMean:
    return FaceSimilarity(NanoFaceEmbedder(), name="nano_face_similarity")


CARD = Card(
    "nano_face",
    "Cosine of Fisher's discriminants of nano faces.",
    (Score("nano_face_similarity", "face similarity (nano)", "higher", worst=0.0),),
    (),
    _build,
    notes="Not among the scorers of tables: a nano clip starts from its speaker's face, so the value says little.",
    shipped=(Path(face.__file__), Path(__file__)),
)
