"""The networks that tell speakers apart, each with the similarity above which two clips show one person.

Faces of the nano world are compared by what differs between drawn people, and not with how they move their mouths.
Letters: N people, M mouths, F frames, P numbers of a small picture, D embedding size.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from scipy.linalg import eigh
from torch import Tensor, nn

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import ClipMean, mono
from idlora_pl.metrics.embedders import FaceEmbedder, SpeakerEmbedder
from idlora_pl.metrics.face import FaceSimilarity, spread_frames
from idlora_pl.metrics.scorable import check_embedding, check_frames, check_waveform
from idlora_pl.metrics.speaker import SpeakerSimilarity, VoiceSimilarity
from idlora_pl.nano import face
from idlora_pl.nano.corpus import split_seed
from idlora_pl.nano.world import speaker
from idlora_pl.scorers.card import Card
from idlora_pl.scorers.loading import refuse_unavailable
from idlora_pl.scorers.registry import card_named
from idlora_pl.scorers.scores import Score
from idlora_pl.scorers.weights import Unavailable

View = Literal["voice", "face"]


@dataclass(frozen=True)
class Threshold:
    """Mean cosine of two groups of clips above which they are one person's.

    Attributes:
        similarity: the value.
        chosen_on: the data that it was chosen on, or who published it.
    """

    similarity: float
    chosen_on: str


VOICES: dict[str, Threshold | None] = {
    "nano_speaker": Threshold(0.83, "nano test split, 3 x 40 speakers x 8 clips: F1 1.000, 0.984, 0.997"),
    "spk_sim_dvector": Threshold(
        0.65,
        "LibriSpeech test-other, 7 x 10 utterances: F1 1 from 0.60 to 0.70; latentsync, 3 people: from 0.50 to 0.65",
    ),
    "spk_sim_ecapa": Threshold(0.25, "default of SpeechBrain's SpeakerRecognition.verify_files; not measured here"),
    "spk_sim": None,
    "spk_sim_idlora": None,
}
FACES: dict[str, Threshold | None] = {
    "face_sim_mobilefacenet": Threshold(0.60, "GRID, 26 clips of 6 people: same >= 0.907, different <= 0.407"),
    "face_sim": None,
    "nano_face": Threshold(0.90, "nano validation split, 40 speakers x 10 clips: same >= 0.988, different <= 0.791"),
}
"""Scorers by name; None where neither we nor its authors say a threshold, which must then be given."""


@dataclass(frozen=True)
class Embedder:
    """One network and its threshold.

    Attributes:
        view: what it looks at.
        name: of its scorer.
        weights: folder of weights.
        digest: hash of its weights.
        threshold: similarity above which two clips show one person.
        chosen_on: where the threshold comes from.
    """

    view: View
    name: str
    weights: Path
    digest: str
    threshold: float
    chosen_on: str

    def embed(self, clip: Clip) -> Tensor:
        """Embed a clip; returns (D,) float32.

        Raises:
            Unscorable: the clip has no voice, or no face.
        """
        network = _network(self.name, self.weights)
        with torch.no_grad():
            if self.view == "voice":
                voice = check_waveform(mono(clip.waveform), clip.sample_rate_hz)
                return check_embedding(network.embed(voice[None], clip.sample_rate_hz)[0])  # type: ignore[call-arg]
            frames = check_frames(clip.frames, clip.frame_rate_fps)
            return check_embedding(network.embed(frames[spread_frames(len(frames))]).mean(0))  # type: ignore[call-arg]


def _card(name: str) -> Card:
    return NANO_FACE if name == NANO_FACE.name else card_named(name)


@cache
def _network(name: str, weights: Path) -> SpeakerEmbedder | FaceEmbedder:
    metric = _card(name).load(weights)
    assert isinstance(metric, VoiceSimilarity | SpeakerSimilarity | FaceSimilarity)
    return metric.embedder


def choose_embedder(view: View, name: str, weights: Path, threshold: float | None) -> Embedder:
    """Return an embedder whose weights are there.

    Args:
        view: "voice" or "face".
        name: of a scorer.
        weights: folder of weights.
        threshold: in place of the one that is known.

    Raises:
        ValueError: the name or the threshold is wrong, or no threshold is known.
        Unavailable: weights or a library are missing.
    """
    known = VOICES if view == "voice" else FACES
    if name not in known:
        raise ValueError(f"--{view} must be one of {', '.join(known)}; got '{name}'")
    if threshold is not None and not -1 < threshold < 1:
        raise ValueError(f"--{view}_threshold must lie between -1 and 1, it is a cosine; got {threshold}")
    card = _card(name)
    refuse_unavailable([card], weights)
    documented = known[name]
    if threshold is None and documented is None:
        raise ValueError(f"no threshold of {name} is known; measure one and give --{view}_threshold")
    chosen = Threshold(threshold, "given") if threshold is not None else documented
    assert chosen is not None
    return Embedder(view, name, weights, card.digest(weights), chosen.similarity, chosen.chosen_on)


def available_face(weights: Path) -> str | None:
    """Return the first face scorer with a known threshold whose weights and libraries are here.

    Faces of the nano world are never taken for others.
    """
    for name, threshold in FACES.items():
        if name == NANO_FACE.name:
            continue
        try:
            refuse_unavailable([_card(name)], weights)
        except Unavailable:
            continue
        if threshold is not None:
            return name
    return None


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


NANO_FACE = Card(
    "nano_face",
    "Cosine of Fisher's discriminants of nano faces.",
    (Score("nano_face_similarity", "face similarity (nano)", "higher", worst=0.0),),
    (),
    _build,
    notes="Not among the scorers of tables: a nano clip starts from its speaker's face, so the value says little.",
    shipped=(Path(face.__file__), Path(__file__)),
)
