"""Faces of the nano world as vectors: what the drawing varies, found by looking at drawn faces. No trained weights.

Letters: F frames, N drawn faces, P pixels of a small picture.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from idlora_pl.metrics.clip_mean import ClipMean
from idlora_pl.metrics.face import FaceSimilarity
from idlora_pl.nano import face
from idlora_pl.nano.corpus import split_seed
from idlora_pl.nano.world import speaker
from idlora_pl.scorers.card import Card, Score

_SIDE, _N_FACES, _N_TRAITS = 16, 256, 14


class NanoFaceEmbedder:
    """The 14 principal components of drawn faces, each of variance 1; satisfies `metrics.embedders.FaceEmbedder`.

    They are computed from 256 speakers of the training split with closed mouths, and are the same everywhere up to
    rounding.
    """

    def __init__(self) -> None:
        people = [speaker(split_seed("train", index)) for index in range(_N_FACES)]
        closed = torch.zeros(_N_FACES, 1)
        pictures = self._small(face.draw(people, closed, torch.ones_like(closed)).flatten(0, 1))
        self.mean = pictures.mean(0)
        _, spread, axes = torch.linalg.svd(pictures - self.mean, full_matrices=False)
        self.axes = axes[:_N_TRAITS] / (spread[:_N_TRAITS, None] / _N_FACES**0.5)

    def _small(self, frames: Tensor) -> Tensor:
        """Return frames uint8 (F, 3, H, W) as small pictures (F, P) in [0, 1]."""
        return nn.functional.interpolate(frames.float() / 255, (_SIDE, _SIDE), mode="area").flatten(1)

    def embed(self, frames: Tensor) -> Tensor:
        """Embed frames uint8 (F, 3, H, W) of a nano face that fills them; returns (F, 14)."""
        return (self._small(frames) - self.mean) @ self.axes.T


def _build(_weights: Path) -> ClipMean:
    return FaceSimilarity(NanoFaceEmbedder(), name="nano_face_similarity")


CARD = Card(
    "nano_face",
    "Cosine of the principal components of nano faces.",
    (Score("nano_face_similarity", "face similarity (nano)", "higher", worst=0.0),),
    (),
    _build,
    notes="Not among the scorers of tables: a nano clip starts from its speaker's face, so the value says little.",
    shipped=(Path(face.__file__),),
)
