"""The lists of stages that the released scripts run, by name, and what weights they need."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from idlora_pl.ltx2.schedule import STAGE_2_SIGMAS
from idlora_pl.sampling import Sampling, Stage

StageList = Literal["one_stage", "two_stage"]

REFINING = Stage(
    sigmas=STAGE_2_SIGMAS, text_scale=(1.0, 1.0), identity_scale=0.0, perturbed_scale=0.0, modality_scale=1.0,
    adapter_scale=0.0, distilled_scale=0.8, upscale=2, frozen_audio=True,
)  # fmt: skip
"""Second stage of the released two-stage scripts (spec section 4.5)."""


def with_stages(name: StageList, sampling: Sampling | None = None) -> Sampling:
    """Return sampling settings with the stages of a released script.

    Args:
        name: "one_stage", or "two_stage" (needs an upsampler and a distilled LoRA; the clip has twice the size).
        sampling: Where sizes, scales and everything else come from; None takes the released scripts' values.

    Example:
        >>> with_stages("two_stage").size()
        (1024, 1024)
    """
    sampling = sampling or Sampling()
    lists: dict[StageList, tuple[Stage, ...]] = {"one_stage": (), "two_stage": (REFINING,)}
    if name not in lists:
        raise ValueError(f"stages must be one of {', '.join(lists)}; got {name!r}")
    return replace(sampling, then=lists[name])


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
