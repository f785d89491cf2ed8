"""The training objective of ID-LoRA: flow matching on the target tokens, given the reference in context.

Letters: B batch, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from idlora_pl.data.samples import PairBatch
from idlora_pl.ltx2.presets import Preset
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.flow import NoiseLevels, velocity, velocity_loss
from idlora_pl.method.in_context import InContext
from idlora_pl.method.positions import Geometry
from idlora_pl.method.tokens import AVSequence, TextContext, audio_tokens, patchify_audio, patchify_video, video_tokens
from idlora_pl.training.noise import Coin, Noise, Precision, draw_noise, unpadded

Losses = dict[Literal["video", "audio"], Tensor]
Levels = Literal["preset", "logit_normal", "stretched"]


@dataclass(frozen=True)
class Objective:
    """Where our training differs from the authors'; docs/faithful.md says what each choice changes.

    Attributes:
        first_frame_coin: Who tosses for a clean first frame: every "sample" or, as the authors do, the "batch".
        padding_in_loss: Whether padding is trained on as the authors do: in the loss, in attention, and in the
            length that the reference is shifted by. Otherwise items are cut to their true lengths.
        target_precision: In what noise and velocities are computed: "float32" or, as the authors do, the dtype in
            which the latents are "stored".
        noise_levels: Distribution of the noise levels: that of the base model's trainer ("preset"), or by name.
    """

    first_frame_coin: Coin = "sample"
    padding_in_loss: bool = False
    target_precision: Precision = "float32"
    noise_levels: Levels = "preset"

    def __post_init__(self) -> None:
        """Refuse a value that is no choice."""
        kinds = {"first_frame_coin": Coin, "target_precision": Precision, "noise_levels": Levels}
        for name, kind in kinds.items():
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}; got {getattr(self, name)!r}")
        if not isinstance(self.padding_in_loss, bool):
            raise ValueError(f"padding_in_loss must be true or false; got {self.padding_in_loss!r}")

    def levels(self, preset: Preset) -> NoiseLevels:
        """Return the distribution of noise levels for a base model."""
        return preset.noise_levels if self.noise_levels == "preset" else self.noise_levels

    def draw(self, batch: PairBatch, first_frame_p: float, generator: torch.Generator, preset: Preset) -> Noise:
        """Draw what one training step on a batch needs; see `draw_noise`."""
        return draw_noise(
            batch,
            first_frame_p,
            generator,
            coin=self.first_frame_coin,
            levels=self.levels(preset),
            precision=self.target_precision,
        )


def noisy_sequence(
    in_context: InContext,
    geometry: Geometry,
    batch: PairBatch,
    noise: Noise,
    text: TextContext,
    *,
    with_reference: bool = True,
) -> AVSequence:
    """Build the sequence at noise level sigma; at sigma 1 it is the one that sampling starts from.

    Args:
        in_context: How the reference enters the sequence.
        geometry: Position grids of the base model.
        batch: Targets and references as latents.
        noise: What was drawn.
        text: Context of the prompts.
        with_reference: Whether the voice is given.
    """
    frames, rows, columns = batch.target_video.shape[-3:]
    video, audio = patchify_video(batch.target_video).float(), patchify_audio(batch.target_audio).float()
    shape, given = (frames, rows, columns), noise.first_frame
    return in_context.assemble(
        video_tokens(video, noise.video, noise.sigma, shape=shape, first_frame=given, grid=geometry.video),
        audio_tokens(audio, noise.audio, noise.sigma, grid=geometry.audio),
        text,
        patchify_audio(batch.reference).float() if with_reference else None,
        geometry.audio,
    )


def velocity_targets(batch: PairBatch, noise: Noise, objective: Objective) -> tuple[Tensor, Tensor]:
    """Return the true velocities of the target tokens of video and audio, (B, N, C) each.

    Args:
        batch: Targets as latents.
        noise: What was drawn.
        objective: `target_precision` decides the dtype that is computed in and returned (spec 3.2).
    """
    video, audio = patchify_video(batch.target_video), patchify_audio(batch.target_audio)
    if objective.target_precision == "float32":
        video, audio = video.float(), audio.float()
    return velocity(video, noise.video.to(video.dtype)), velocity(audio, noise.audio.to(audio.dtype))


def flow_losses(
    model: LTX2,
    in_context: InContext,
    batch: PairBatch,
    noise: Noise,
    text: TextContext,
    *,
    objective: Objective = Objective(),  # noqa: B008  (frozen)
    with_reference: bool = True,
) -> Losses:
    """Compute the mean squared velocity error over the tokens that are not clean, per modality (Eq. ?, spec 3.3).

    Args:
        model: The transformer with its adapter.
        in_context: How the reference enters the sequence.
        batch: Targets and references as latents.
        noise: What was drawn.
        text: Context of the prompts.
        objective: What is done about padding, and the precision of the targets.
        with_reference: Whether the voice is given.
    """
    parts = [(batch, noise, text)] if objective.padding_in_loss else unpadded(batch, noise, text)
    video, audio = [], []
    for part_batch, part_noise, part_text in parts:
        av = noisy_sequence(
            in_context, model.geometry, part_batch, part_noise, part_text, with_reference=with_reference
        )
        v_video, v_audio = model(av, part_noise.sigma)
        target_video, target_audio = velocity_targets(part_batch, part_noise, objective)
        video.append((v_video, target_video, av.video.clean))
        audio.append((v_audio, target_audio, av.audio.target().clean))
    return {"video": _mean_error(video), "audio": _mean_error(audio)}


def _mean_error(parts: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Return the loss of (prediction, target, clean) parts, every token of which counts the same."""
    prediction, target, clean = (
        torch.cat([tensor.flatten(0, 1) for tensor in tensors])[None] for tensors in zip(*parts, strict=True)
    )
    return velocity_loss(prediction, target, clean)
