"""One stage of sampling, and the sequence that the next stage starts from; nothing here knows any weights.

Letters: B clips, N tokens, C channels, F H W the video latent grid, T audio tokens, S steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from idlora_pl.ltx2.schedule import sigmas as schedule
from idlora_pl.method.flow import x_sigma
from idlora_pl.method.guidance import Velocities, VelocityField, guided
from idlora_pl.method.positions import VideoGrid
from idlora_pl.method.res2s import sample_res2s
from idlora_pl.method.sampler import sample_euler
from idlora_pl.method.tokens import AVSequence, TextContext, Tokens, patchify_video, video_tokens
from idlora_pl.sampling import Stage


def stage_sigmas(stage: Stage, n_tokens: int) -> Tensor:
    """Return the noise levels (S + 1,) of a stage for a clip of `n_tokens` video tokens (spec section 4.1)."""
    if stage.sigmas is not None:
        return torch.tensor(stage.sigmas)
    return schedule(stage.steps, stage.shift_tokens or n_tokens)


def sample_stage(
    velocity: VelocityField,
    start: AVSequence,
    stage: Stage,
    *,
    stg_block: int,
    negative: TextContext | None = None,
    sigmas: Tensor | None = None,
    draw: Iterator[Tensor] | None = None,
    on_step: Callable[[int, AVSequence], None] | None = None,
) -> AVSequence:
    """Run one stage: guided steps of its sampler over its noise levels (spec sections 4.3, 4.4 and 4.6).

    Args:
        velocity: The model, or anything with its interface.
        start: Noise in the noisy tokens, data in the clean ones.
        stage: Which guidance and which noise levels.
        stg_block: The block that spatio-temporal guidance perturbs, `Preset.stg_block`.
        negative: Context (B) of the negative prompt; needed when `stage.needs_negative`.
        sigmas: Other noise levels (S + 1,) than the stage's.
        draw: Fresh noise for "res2s", see `sample_res2s`; None adds none. Euler steps take none.
        on_step: Called with the step's number and the sequence after each step.

    Returns:
        The sequence with the latents at the last noise level.
    """
    levels = stage_sigmas(stage, start.video.n_tokens) if sigmas is None else sigmas
    terms = stage.guidance(stg_block)

    def field(av: AVSequence, sigma: Tensor) -> Velocities:
        return guided(velocity, av, sigma, terms, negative)

    if stage.sampler == "res2s":
        return sample_res2s(field, start, levels, draw, on_step)
    return sample_euler(field, start, levels, on_step)


def refined_start(
    done: AVSequence,
    video: Tensor,
    *,
    noise: Tensor,
    sigma: float,
    grid: VideoGrid,
    first_frame: Tensor | None = None,
    audio_noise: Tensor | None = None,
) -> AVSequence:
    """Build the sequence that a refining stage starts from (spec section 4.5).

    Args:
        done: What the stage before made; its text and its sound go on.
        video: (B, C, F, H, W) its video latents at the size of this stage.
        noise: (B, F*H*W, C) Gaussian noise of the video.
        sigma: Noise level that the video is taken back to, the stage's first.
        grid: Positions of video tokens.
        first_frame: (B, H*W, C) tokens of the first frame at this size, clean in the result; None gives none.
        audio_noise: (B, T, C) Gaussian noise that takes the target's sound back to `sigma`, too, beside its voice.
            None freezes the sound: all of it is clean and the voice is gone.
    """
    x0 = patchify_video(video)
    if first_frame is not None:
        x0 = torch.cat([first_frame.to(x0), x0[:, first_frame.shape[1] :]], dim=1)
    level = torch.full((len(x0),), sigma, device=x0.device)
    given = torch.full((len(x0),), first_frame is not None, device=x0.device)
    frames, rows, columns = video.shape[2:]
    tokens = video_tokens(x0, noise, level, shape=(frames, rows, columns), first_frame=given, grid=grid)
    return replace(
        done,
        video=replace(tokens, positions=tokens.positions.to(done.video.positions.dtype)),
        audio=_frozen(done.audio) if audio_noise is None else _noised(done.audio, audio_noise, level),
    )


def _frozen(audio: Tokens) -> Tokens:
    target = audio.target()
    return replace(target, clean=torch.ones_like(target.clean))


def _noised(audio: Tokens, noise: Tensor, level: Tensor) -> Tokens:
    """Take the target back to the noise level; the reference stays."""
    target, cut = audio.target(), audio.n_reference
    moved = x_sigma(target.latents, noise.to(target.latents), level, target.clean)
    return audio.with_latents(torch.cat([audio.latents[:, :cut], moved], dim=1))
