"""Settings of sampling: the released scripts' values, and those of the nano world's small clips."""

from __future__ import annotations

from dataclasses import dataclass

from idlora_pl.ltx2.presets import PresetName
from idlora_pl.method.guidance import Guidance, IdentityGuidance, ModalityGuidance, PerturbedGuidance, TextGuidance

NEGATIVE_PROMPT = "worst quality, inconsistent motion, blurry, jittery, distorted"


@dataclass(frozen=True)
class Sampling:
    """How clips are sampled; the defaults are those of the released scripts.

    Attributes:
        n_frames: Frames of a clip, 8k+1.
        height: Pixels.
        width: Pixels.
        steps: Euler steps.
        shift_tokens: Video tokens that set the schedule's shift; None takes the clip's own number. The released
            scripts use 4096 at every size.
        text_scale: Text guidance of (video, audio); 1 is off.
        identity_scale: Identity guidance of the audio; 0 is off.
        perturbed_scale: Spatio-temporal guidance at the preset's block; 0 is off.
        modality_scale: Modality guidance; 1 is off.
        negative_prompt: Text of the weaker twin of text guidance.
        with_reference: Whether the voice is given; False is the table's row without a reference.
        batch_size: Clips sampled at once; it changes the latents of a clip by float rounding only.
        seed: Clip i of a prompt file uses seed + i, if its entry has no seed of its own.
    """

    n_frames: int = 121
    height: int = 512
    width: int = 512
    steps: int = 30
    shift_tokens: int | None = 4096
    text_scale: tuple[float, float] = (3.0, 7.0)
    identity_scale: float = 3.0
    perturbed_scale: float = 1.0
    modality_scale: float = 3.0
    negative_prompt: str = NEGATIVE_PROMPT
    with_reference: bool = True
    batch_size: int = 1
    seed: int = 42

    def __post_init__(self) -> None:
        """Refuse sizes and counts that cannot be sampled."""
        for name, least in {"n_frames": 1, "height": 1, "width": 1, "steps": 2, "batch_size": 1}.items():
            if (value := getattr(self, name)) < least:
                raise ValueError(f"sampling.{name} must be at least {least}; got {value}")

    def guidance(self, stg_block: int) -> list[Guidance]:
        """Return the four guidance terms; those that are off cost nothing."""
        return [
            TextGuidance(*self.text_scale),
            IdentityGuidance(self.identity_scale),
            PerturbedGuidance(self.perturbed_scale, (stg_block,)),
            ModalityGuidance(self.modality_scale),
        ]


def default_sampling(base: PresetName) -> Sampling:
    """Return the sampling settings of a base: the released scripts', or those of the nano world's small clips."""
    if base == "nano":
        return Sampling(
            n_frames=33, height=64, width=64, steps=16, shift_tokens=None, text_scale=(2.0, 2.0), identity_scale=1.0,
            perturbed_scale=0.0, modality_scale=1.0, negative_prompt="", batch_size=16,
        )  # fmt: skip
    if base == "smoke":
        return Sampling(n_frames=17, height=64, width=64, steps=4, batch_size=2)
    return Sampling()
