"""The lists of stages that the released scripts run, by name, and what weights they need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from idlora_pl.ltx2.schedule import STAGE_2_SIGMAS
from idlora_pl.sampling import Sampling, Stage

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
