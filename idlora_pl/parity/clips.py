"""The clip of a sampling case: sizes, noise, conditions, guidance scales, and the sequence that sampling starts from.

Letters: B clips, N tokens, C channels, F H W the video latent grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from idlora_pl.generation.sampling import Stage
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.in_context import InContext
from idlora_pl.method.tokens import AVSequence, TextContext, audio_tokens, patchify_audio, patchify_video, video_tokens
from idlora_pl.parity.cases import Case

SCRIPT = InContext(video_sees_reference=True, reference_sees_text=True)
"""The recipe of the released scripts: no masks (spec section 0.5). The cases were made in float32 throughout."""


@dataclass(frozen=True)
class Scales:
    """Guidance of one run, under the names of the released scripts.

    Attributes:
        video_cfg: text guidance of the video; 1 is off.
        audio_cfg: text guidance of the audio; 1 is off.
        identity: identity guidance; 0 is off.
        stg: spatio-temporal guidance; 0 is off.
        bimodal: modality guidance; 1 is off.
        stg_mode: "stg_av" perturbs both modalities, "stg_v" the video.
        stg_blocks: the blocks that are perturbed.
        image: whether the first frame is given.
        reference: whether the voice is given.
    """

    video_cfg: float
    audio_cfg: float
    identity: float
    stg: float
    bimodal: float
    stg_mode: str = "stg_av"
    stg_blocks: tuple[int, ...] = ()
    image: bool = True
    reference: bool = True

    def stage(self, **settings: Any) -> Stage:
        """Return our stage with this guidance."""
        return Stage(
            text_scale=(self.video_cfg, self.audio_cfg),
            identity_scale=max(0.0, self.identity),
            perturbed_scale=self.stg,
            perturbed_modalities="both" if self.stg_mode == "stg_av" else "video",
            perturbed_block=self.stg_blocks or None,
            modality_scale=self.bimodal,
            **settings,
        )


def read_scales(case: Case, model: LTX2) -> Scales:
    """Return the guidance of a case; it names blocks where spatio-temporal guidance is on."""
    names = ("video_cfg", "audio_cfg", "identity", "stg", "bimodal")
    scales = Scales(**{name: case.number(f"scales.{name}") for name in names})  # type: ignore[arg-type]
    if scales.stg == 0 and not case.has_field("stg_blocks"):
        return scales
    mode = case.choice("stg_mode", ("stg_av", "stg_v")) if case.has_field("stg_mode") else "stg_av"
    return replace(scales, stg_mode=mode, stg_blocks=blocks_of(case, "stg_blocks", model))


def blocks_of(case: Case, field: str, model: LTX2) -> tuple[int, ...]:
    """Return a field that lists blocks of the model."""
    blocks, n_blocks = tuple(case.items(field, int)), len(model.transformer.transformer_blocks)
    if any(not 0 <= block < n_blocks for block in blocks):
        raise case.wrong(field, f"is {list(blocks)}; the model has the blocks 0..{n_blocks - 1}")
    return blocks


def varied(case: Case, name: str, scales: Scales, model: LTX2) -> Scales:
    """Return the guidance of a variant, which names what it changes as the released scripts' pipeline does."""
    numbers = {
        "v_scale": "video_cfg",
        "a_scale": "audio_cfg",
        "_identity_guidance_scale": "identity",
        "_stg_scale": "stg",
        "_av_bimodal_scale": "bimodal",
    }
    changes: dict[str, Any] = {}
    place = f"variants.{name}"
    settings: Mapping[str, Any] = case.mapping(place)
    for key in settings:
        field = f"{place}.{key}"
        if key in numbers:
            changes[numbers[key]] = case.number(field)
        elif key in ("image", "ref"):
            changes["reference" if key == "ref" else key] = case.flag(field)
        elif key == "_stg_mode":
            changes["stg_mode"] = case.choice(field, ("stg_av", "stg_v"))
        elif key == "_stg_blocks":
            changes["stg_blocks"] = blocks_of(case, field, model)
        elif key not in ("_identity_guidance", "_av_bimodal_cfg"):
            raise case.wrong(field, "is an unknown setting of a variant")
    if "_identity_guidance" in settings and not case.flag(f"{place}._identity_guidance"):
        changes["identity"] = 0.0
    if "_av_bimodal_cfg" in settings and not case.flag(f"{place}._av_bimodal_cfg"):
        changes["bimodal"] = 0.0  # the scripts' way to turn it off, which gives weight -1 (spec section 6.17)
    return replace(scales, **changes)


def levels_of(case: Case, name: str, steps: int | None = None) -> Tensor:
    """Return the noise levels (S + 1,) of a run; they must fall inside [0, 1]."""
    levels = case.tensor(name, None if steps is None else steps + 1)
    if len(levels) < 2 or not (levels.diff() < 0).all() or levels[0] > 1 or levels[-1] < 0:
        raise case.wrong_tensor(name, f"is {levels.tolist()}; noise levels must fall inside [0, 1]")
    return levels


def grid_of(case: Case, model: LTX2) -> tuple[int, int, int]:
    """Return the video latent grid (F, H, W) of `num_frames`, `height` and `width`."""
    grid = model.geometry.video
    frames = case.whole("num_frames", least=1)
    if (frames - 1) % grid.temporal_stride:
        raise case.wrong("num_frames", f"is {frames}; it must be 1 more than a multiple of {grid.temporal_stride}")
    sizes = [case.whole(name, least=1) for name in ("height", "width")]
    for name, size in zip(("height", "width"), sizes, strict=True):
        if size % grid.spatial_stride:
            raise case.wrong(name, f"is {size}; it must be a multiple of {grid.spatial_stride}")
    rows, columns = (size // grid.spatial_stride for size in sizes)
    return 1 + (frames - 1) // grid.temporal_stride, rows, columns


def context_of(case: Case, sign: str) -> TextContext:
    """Return the context of the prompt ("pos") or of the negative prompt ("neg")."""
    video = case.tensor(f"in.video_context_{sign}", None, None, None)
    return TextContext(video, case.tensor(f"in.audio_context_{sign}", len(video), video.shape[1], None))


def n_reference_of(case: Case) -> int:
    """Return the number of reference tokens; a case without a reference may leave `ref_tokens` out."""
    if not case.has("in.reference_audio_latent") and not case.has_field("ref_tokens"):
        return 0
    return case.whole("ref_tokens")


def first_frame_of(case: Case, name: str, rows: int, columns: int) -> Tensor | None:
    """Return the tokens (B, H*W, C) of a first frame, or None where the case has none."""
    if not case.has(name):
        return None
    return patchify_video(case.tensor(name, None, None, 1, rows, columns))


def start_of(
    case: Case, model: LTX2, noise: tuple[Tensor, Tensor], *, image: bool = True, reference: bool = True
) -> AVSequence:
    """Assemble the sequence that sampling starts from, as the pipeline does.

    Args:
        case: gives sizes, prompt, first frame and reference.
        model: for its grids.
        noise: (B, N, C) of the video, and of the target audio without the reference.
        image: whether the first frame is given, if the case has one.
        reference: whether the voice is given, if the case has one.
    """
    video, audio = noise
    shape = grid_of(case, model)
    first = first_frame_of(case, "in.first_frame_latent", *shape[1:]) if image else None
    x0 = torch.zeros_like(video)
    if first is not None:
        x0[:, : first.shape[1]] = first
    voice = None
    if reference and case.has("in.reference_audio_latent"):
        voice = patchify_audio(case.tensor("in.reference_audio_latent", len(video), None, None, None))
    sigma, given = torch.ones(len(video)), torch.full((len(video),), first is not None)
    return SCRIPT.assemble(
        video_tokens(x0, video, sigma, shape=shape, first_frame=given, grid=model.geometry.video),
        audio_tokens(torch.zeros_like(audio), audio, sigma, grid=model.geometry.audio),
        context_of(case, "pos"),
        voice,
        model.geometry.audio,
    )
