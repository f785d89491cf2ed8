"""The training objective of ID-LoRA: flow matching on the target tokens, given the reference in context.

Letters: B batch, N tokens, C channels.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from idlora_pl.data.shards import PairBatch
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.clip_tokens import audio_tokens, video_tokens
from idlora_pl.method.flow import velocity, velocity_loss
from idlora_pl.method.in_context import InContext
from idlora_pl.method.positions import Geometry
from idlora_pl.method.tokens import AVSequence, TextContext, patchify_audio, patchify_video
from idlora_pl.training.noise import Noise

Losses = dict[Literal["video", "audio"], Tensor]


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


def flow_losses(
    model: LTX2,
    in_context: InContext,
    batch: PairBatch,
    noise: Noise,
    text: TextContext,
    *,
    with_reference: bool = True,
) -> Losses:
    """Compute the mean squared velocity error over the tokens that are not clean, per modality (Eq. ?).

    Args:
        model: The transformer with its adapter.
        in_context: How the reference enters the sequence.
        batch: Targets and references as latents.
        noise: What was drawn.
        text: Context of the prompts.
        with_reference: Whether the voice is given.
    """
    av = noisy_sequence(in_context, model.geometry, batch, noise, text, with_reference=with_reference)
    v_video, v_audio = model(av, noise.sigma)
    video, audio = patchify_video(batch.target_video).float(), patchify_audio(batch.target_audio).float()
    return {
        "video": velocity_loss(v_video, velocity(video, noise.video), av.video.clean),
        "audio": velocity_loss(v_audio, velocity(audio, noise.audio), av.audio.target().clean),
    }
