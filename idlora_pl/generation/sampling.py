"""Settings of sampling: what one stage does, what holds for the whole clip, and the defaults of each base.

The lists of stages that the released scripts run have names, and say what weights they need.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, Literal, get_args

from idlora_pl.ltx2.presets import PresetName
from idlora_pl.ltx2.schedule import STAGE_2_SIGMAS
from idlora_pl.method.guidance import (
    Guidance,
    IdentityGuidance,
    Modalities,
    ModalityGuidance,
    PerturbedGuidance,
    TextGuidance,
)
from idlora_pl.method.noise import NoiseSource, checked_seed

NEGATIVE_PROMPT = "worst quality, inconsistent motion, blurry, jittery, distorted"

Sampler = Literal["euler", "res2s"]
Recipe = Literal["trained", "released"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One sampling run over noise levels; the defaults are those of the released one-stage scripts.

    Attributes:
        steps: Steps of the sampler.
        sigmas: Falling noise levels in [0, 1]; they replace `steps` and `shift_tokens`. None takes the schedule.
        sampler: "euler", or the HQ script's "res2s": two evaluations a step, and part of the noise is drawn anew.
        shift_tokens: Video tokens that set the schedule's shift; None takes the clip's own number. The released
            one-stage and two-stage scripts use 4096 at every size.
        text_scale: Text guidance of (video, audio); 1 is off.
        projected_text: Whether text guidance scales the twin to the base's projection onto it (CFG-star). The HQ
            script calls that rescaling and takes a scale for it, which only switches it on (spec section 6.26).
        identity_scale: Identity guidance of the audio; 0 is off.
        perturbed_scale: Spatio-temporal guidance; 0 is off.
        perturbed_modalities: Whose self-attention that perturbs: "both" (the scripts' `stg_av`), "video" (`stg_v`) or
            "audio".
        perturbed_block: The block, or the blocks, that it perturbs; None takes the preset's, 29 for both full-size
            models. The released HQ script has 28, which does not matter at its scale of 0.
        modality_scale: Modality guidance; 1 is off. 0 is the released scripts' way to turn it off, which adds the
            isolated twin with weight -1 (spec section 6.17).
        adapter_scale: Strength of the ID-LoRA; 0 is the base alone.
        distilled_scale: Strength of the distilled LoRA, which `distilled_lora` names.
        upscale: Enlarge what the stage before made by this factor; 2 needs `upsampler`.
        frozen_audio: Keep the sound of the stage before as it is: all audio is clean and the voice is not given.

    Raises:
        ValueError: If a value cannot be sampled with.
    """

    steps: int = 30
    sigmas: tuple[float, ...] | None = None
    sampler: Sampler = "euler"
    shift_tokens: int | None = 4096
    text_scale: tuple[float, float] = (3.0, 7.0)
    projected_text: bool = False
    identity_scale: float = 3.0
    perturbed_scale: float = 1.0
    perturbed_modalities: Modalities = "both"
    perturbed_block: int | tuple[int, ...] | None = None
    modality_scale: float = 3.0
    adapter_scale: float = 1.0
    distilled_scale: float = 0.0
    upscale: int = 1
    frozen_audio: bool = False

    def __post_init__(self) -> None:
        """Refuse noise levels and factors that cannot be sampled."""
        if self.sigmas is None and self.steps < 2:
            raise ValueError(f"sampling.steps must be at least 2; got {self.steps}")
        if self.shift_tokens is not None and self.shift_tokens < 1:
            raise ValueError(
                f"sampling.shift_tokens must be at least 1, or null for the clip's own; got {self.shift_tokens}"
            )
        if self.sigmas is not None:
            falls = all(now > then for now, then in pairwise(self.sigmas))
            if len(self.sigmas) < 2 or not falls or self.sigmas[0] > 1 or self.sigmas[-1] < 0:
                raise ValueError(
                    f"sampling.sigmas must be two or more noise levels that fall inside [0, 1]; got {self.sigmas}"
                )
        if self.sampler not in get_args(Sampler):
            raise ValueError(f"sampling.sampler must be {' or '.join(get_args(Sampler))}; got {self.sampler!r}")
        if self.upscale not in (1, 2):
            raise ValueError(f"sampling.then.upscale must be 1 or 2, the upsampler's factor; got {self.upscale}")

    @property
    def n_steps(self) -> int:
        """How many steps the stage makes."""
        return self.steps if self.sigmas is None else len(self.sigmas) - 1

    @property
    def needs_negative(self) -> bool:
        """Whether text guidance is on, which reads the negative prompt."""
        return set(self.text_scale) != {1.0}

    def guidance(self, stg_block: int) -> list[Guidance]:
        """Return the four guidance terms; those that are off cost nothing. `stg_block` is the preset's block."""
        block = stg_block if self.perturbed_block is None else self.perturbed_block
        blocks = (block,) if isinstance(block, int) else tuple(block)
        return [
            TextGuidance(*self.text_scale, self.projected_text),
            IdentityGuidance(self.identity_scale),
            PerturbedGuidance(self.perturbed_scale, blocks, self.perturbed_modalities),
            ModalityGuidance(self.modality_scale),
        ]


@dataclass(frozen=True, kw_only=True)
class Sampling(Stage):
    """How clips are sampled: the first stage, what holds for the whole clip, and the stages that follow.

    Attributes:
        n_frames: Frames of a clip, 8k+1.
        height: Pixels of the first stage; a later stage with `upscale: 2` doubles them.
        width: Pixels of the first stage.
        negative_prompt: Text of the weaker twin of text guidance.
        with_reference: Whether the voice is given; False is the table's row without a reference.
        batch_size: Clips sampled at once; it changes the latents of a clip by float rounding only.
        seed: Clip i of a prompt file uses seed + i, if its entry has no seed of its own.
        noise: "independent" draws video and audio of a clip from two generators, so that the sound's noise does not
            depend on the picture's size. "released" is the scripts' order: one generator a clip, video first, then
            [reference | target] audio, so that the noise of the sound depends on the voice's length; the fresh
            noise of "res2s" is then the same for every clip.
        recipe: "trained" assembles the sequence as the adapter was trained. "released" does it as the released
            scripts do whatever the adapter says: the video sees the reference, the reference sees the text, and
            positions are "mixed" (spec sections 0.5 and 2.2).
        then: The stages that refine what the first one made.

    Raises:
        ValueError: If a size or a count is too small, or the first stage refines.
    """

    n_frames: int = 121
    height: int = 512
    width: int = 512
    negative_prompt: str = NEGATIVE_PROMPT
    with_reference: bool = True
    batch_size: int = 1
    seed: int = 42
    noise: NoiseSource = "independent"
    recipe: Recipe = "trained"
    then: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        """Refuse sizes and counts that cannot be sampled."""
        super().__post_init__()
        for name, least in {"n_frames": 1, "height": 1, "width": 1, "batch_size": 1}.items():
            if (value := getattr(self, name)) < least:
                raise ValueError(f"sampling.{name} must be at least {least}; got {value}")
        checked_seed(self.seed, "sampling.seed")
        if self.upscale != 1 or self.frozen_audio:
            raise ValueError(
                f"the first stage has nothing to refine; got sampling.upscale {self.upscale}, sampling.frozen_audio "
                f"{self.frozen_audio}: set them in a stage of sampling.then"
            )
        frozen = [stage.frozen_audio for stage in self.then]
        if sorted(frozen) != frozen:
            raise ValueError("sampling.then: a stage after frozen_audio cannot move the sound; freeze it there, too")
        for index, stage in enumerate(self.then):
            if stage.sigmas is None or stage.sigmas[0] >= 1:
                raise ValueError(
                    f"sampling.then[{index}].sigmas must start below 1, or nothing is left of the stage before; got "
                    f"{stage.sigmas}: the released scripts have (0.909375, 0.725, 0.421875, 0)"
                )
        for name, kind in {"noise": NoiseSource, "recipe": Recipe}.items():
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"sampling.{name} must be {' or '.join(get_args(kind))}; got {getattr(self, name)!r}")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages in their order."""
        return (self, *self.then)

    def size(self, stage: int = -1) -> tuple[int, int]:
        """Return (height, width) in pixels of what a stage makes, by default the last."""
        factor = prod(one.upscale for one in self.stages[: stage % len(self.stages) + 1])
        return self.height * factor, self.width * factor


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


StageList = Literal["one_stage", "two_stage", "two_stage_hq"]

REFINING = Stage(
    sigmas=STAGE_2_SIGMAS, text_scale=(1.0, 1.0), identity_scale=0.0, perturbed_scale=0.0, modality_scale=1.0,
    adapter_scale=0.0, distilled_scale=0.8, upscale=2, frozen_audio=True,
)  # fmt: skip
"""Second stage of the released two-stage scripts (spec section 4.5)."""

_HQ = {
    "steps": 15, "sampler": "res2s", "shift_tokens": None, "projected_text": True, "identity_scale": 3.0,
    "perturbed_scale": 0.0, "modality_scale": 3.0, "distilled_scale": 0.25,
}  # fmt: skip
"""First stage of the released HQ script, where it differs from the one-stage script (spec section 4.6)."""


def with_stages(name: StageList, sampling: Sampling | None = None) -> Sampling:
    """Return sampling settings with the stages of a released script.

    Args:
        name: "one_stage", "two_stage" or "two_stage_hq". Two stages need an upsampler and a distilled LoRA, and the
            clip has twice the size. "two_stage_hq" (LTX-2.3) samples both stages with res2s and also sets steps,
            shift, projected text guidance and the scales of the first one (spec section 4.6).
        sampling: Where sizes, the other scales and everything else come from; None takes the released scripts'.

    Example:
        >>> with_stages("two_stage").size()
        (1024, 1024)
    """
    lists: dict[StageList, dict[str, Any]] = {
        "one_stage": {"then": ()},
        "two_stage": {"then": (REFINING,)},
        "two_stage_hq": {**_HQ, "then": (replace(REFINING, sampler="res2s", distilled_scale=0.5),)},
    }
    if name not in lists:
        raise ValueError(f"stages must be one of {', '.join(lists)}; got {name!r}")
    return replace(sampling or Sampling(), **lists[name])


def refuse_missing_files(**paths: str | Path | None) -> None:
    """Refuse weights that do not exist, before the big ones are loaded.

    Raises:
        FileNotFoundError: A path that is given leads nowhere; the message names the option.
    """
    for option, path in paths.items():
        if path is not None and not Path(path).exists():
            raise FileNotFoundError(f"{option}: {path} does not exist; correct the path")


def refuse_missing_weights(sampling: Sampling, base: str, *, upsampler: bool, distilled_lora: bool) -> None:
    """Refuse stages that need weights which are not given.

    Args:
        sampling: The stages.
        base: Preset of the base model.
        upsampler: Whether a latent upsampler is given.
        distilled_lora: Whether a distilled LoRA is given.

    Raises:
        ValueError: If a stage enlarges without an upsampler, or wants the distilled LoRA without one.
    """
    if upsampler and base == "nano":
        raise ValueError("the nano world has no upsampler; leave upsampler out")
    for index, stage in enumerate(sampling.stages):
        place = f"sampling.then[{index - 1}]" if index else "sampling"
        if stage.upscale > 1 and base == "nano":
            raise ValueError(f"{place}.upscale is {stage.upscale}, and the nano world has no upsampler; leave it 1")
        if stage.upscale > 1 and not upsampler:
            raise ValueError(f"{place}.upscale is {stage.upscale}, which needs weights: set upsampler to their path")
        if stage.distilled_scale and not distilled_lora:
            raise ValueError(
                f"{place}.distilled_scale is {stage.distilled_scale}, which needs weights: set distilled_lora to "
                "the path of the distilled LoRA"
            )
