"""Guidance: every term is the contrast of the model with a weaker twin of itself.

guided = base + sum over terms of weight * (base - twin), per modality, on velocities. The weights of all
velocities sum to one, so the same formula holds for clean estimates. A twin is weaker for want of a text or a voice,
by perturbed self-attention in some blocks, or by modalities that do not hear each other.

Letters: B batch, N tokens, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from idlora_pl.method.tokens import AVSequence, TextContext, Tokens

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

    Raises:
        ValueError: when a value is no choice.

    Example:
        >>> Perturbation(blocks=(29,), modalities="video").reaches(29, "audio")
        False
    """

    blocks: tuple[int, ...] = ()
    modalities: Modalities = "both"
    isolate: bool = False

    def __post_init__(self) -> None:
        """Refuse a value that is no choice."""
        if self.modalities not in get_args(Modalities):
            raise ValueError(f"modalities must be one of {', '.join(get_args(Modalities))}; got {self.modalities!r}")

    def reaches(self, block: int, modality: Modality) -> bool:
        """Whether the self-attention of a modality in a block is perturbed."""
        return block in self.blocks and self.modalities in ("both", modality)


UNPERTURBED = Perturbation()


Velocities = tuple[Tensor, Tensor]


class VelocityField(Protocol):
    """What predicts velocities: the model, or anything with its interface."""

    def __call__(
        self,
        av: AVSequence,
        sigma: Tensor,
        *,
        perturbation: Perturbation = UNPERTURBED,
    ) -> Velocities:
        """Velocities (B, N, C) of the target tokens of video and audio at noise level sigma (B,)."""
        ...


class Guidance(Protocol):
    """One guidance term."""

    @property
    def weights(self) -> tuple[float, float]:
        """How much the contrast counts for video and for audio."""
        ...

    def twin(self, velocity: VelocityField, av: AVSequence, sigma: Tensor, negative: TextContext | None) -> Velocities:
        """Velocities of the weaker model."""
        ...


@dataclass(frozen=True)
class TextGuidance:
    """Classifier-free guidance: the twin reads the negative prompt. A scale of 1 is no guidance.

    Attributes:
        video_scale: scale of the video velocity; its weight is one less.
        audio_scale: scale of the audio velocity; its weight is one less.
        projected: whether the twin's clean estimate is scaled to the projection of the base's onto it (CFG-star,
            the two-stage HQ script; spec section 4.6).

    Example:
        >>> TextGuidance().weights
        (2.0, 6.0)
    """

    video_scale: float = 3.0
    audio_scale: float = 7.0
    projected: bool = False

    @property
    def weights(self) -> tuple[float, float]:
        """How much the contrast counts for video and for audio."""
        return self.video_scale - 1, self.audio_scale - 1

    def twin(self, velocity: VelocityField, av: AVSequence, sigma: Tensor, negative: TextContext | None) -> Velocities:
        """Velocities with the negative prompt in place of the prompt."""
        if negative is None:
            raise ValueError("TextGuidance needs a negative prompt; pass negative, or leave the term out")
        return velocity(replace(av, text=negative), sigma)


@dataclass(frozen=True)
class IdentityGuidance:
    """Identity guidance (ID-LoRA, Eq. ?): the twin never heard the voice. Only audio is guided.

    Attributes:
        scale: weight of the audio contrast; 0 is no guidance.
    """

    scale: float = 3.0

    @property
    def weights(self) -> tuple[float, float]:
        """How much the contrast counts for video and for audio."""
        return 0.0, self.scale

    def twin(self, velocity: VelocityField, av: AVSequence, sigma: Tensor, negative: TextContext | None) -> Velocities:
        """Velocities without the reference."""
        return velocity(av.without_reference(), sigma)


@dataclass(frozen=True)
class PerturbedGuidance:
    """Spatio-temporal guidance: the twin's self-attention is perturbed in some blocks.

    Attributes:
        scale: weight of the contrast in both modalities; 0 is no guidance.
        blocks: the perturbed blocks; each base model has its own (`Preset.stg_block`).
        modalities: whose self-attention is perturbed; both velocities are guided either way.
    """

    scale: float = 1.0
    blocks: tuple[int, ...] = (29,)
    modalities: Modalities = "both"

    @property
    def weights(self) -> tuple[float, float]:
        """How much the contrast counts for video and for audio."""
        return self.scale, self.scale

    def twin(self, velocity: VelocityField, av: AVSequence, sigma: Tensor, negative: TextContext | None) -> Velocities:
        """Velocities with the perturbed blocks."""
        return velocity(av, sigma, perturbation=Perturbation(self.blocks, self.modalities))


@dataclass(frozen=True)
class ModalityGuidance:
    """Modality guidance: the twin's audio and video ignore each other. A scale of 1 is no guidance.

    Attributes:
        scale: scale of both velocities; the weight is one less.
    """

    scale: float = 3.0

    @property
    def weights(self) -> tuple[float, float]:
        """How much the contrast counts for video and for audio."""
        return self.scale - 1, self.scale - 1

    def twin(self, velocity: VelocityField, av: AVSequence, sigma: Tensor, negative: TextContext | None) -> Velocities:
        """Velocities without audio-video cross attention."""
        return velocity(av, sigma, perturbation=Perturbation(isolate=True))


def guided(
    velocity: VelocityField,
    av: AVSequence,
    sigma: Tensor,
    guidance: Sequence[Guidance],
    negative: TextContext | None = None,
) -> Velocities:
    """Predict velocities with guidance; a term without weight, or without a reference to drop, makes no call.

    Args:
        velocity: the model.
        av: the sequence.
        sigma: (B,) noise level.
        guidance: the terms, in any order.
        negative: context of the negative prompt, needed by `TextGuidance`.

    Returns:
        (B, N, C) of video and of audio target tokens.
    """
    base = velocity(av, sigma)
    video, audio = base
    for term in guidance:
        video_weight, audio_weight = term.weights
        if _is_idle(term, av):
            continue
        twin_video, twin_audio = term.twin(velocity, av, sigma, negative)
        if isinstance(term, TextGuidance) and term.projected:
            twin_video = _projected(av.video, sigma, base[0], twin_video)
            twin_audio = _projected(av.audio, sigma, base[1], twin_audio)
        if video_weight:
            video = video + video_weight * (base[0] - twin_video)
        if audio_weight:
            audio = audio + audio_weight * (base[1] - twin_audio)
    return video, audio


def _projected(tokens: Tokens, sigma: Tensor, base: Tensor, twin: Tensor) -> Tensor:
    """Velocity of the twin's clean estimate times <base, twin> / <twin, twin>, both clean estimates of one sample.

    The products run over all tokens and channels of a sample, the clean ones and the reference included.
    """
    level = sigma[:, None, None].to(twin.device)
    precision = torch.promote_types(tokens.latents.dtype, torch.float32)
    positive, negative = (tokens.moved(v, -level).latents.to(precision).flatten(1) for v in (base, twin))
    factor = (positive * negative).sum(dim=1) / ((negative * negative).sum(dim=1) + 1e-8)
    factor = factor[:, None, None]
    # x0 = x - level v, hence v = (x - factor x0_twin) / level
    return (factor * twin + (1 - factor) * tokens.target().latents / level).to(twin.dtype)


def _is_idle(term: Guidance, av: AVSequence) -> bool:
    return not any(term.weights) or (isinstance(term, IdentityGuidance) and not av.audio.n_reference)
