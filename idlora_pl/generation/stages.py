"""One stage of sampling, and what stages start from: the first from noise, a later one from what was made before.

Nothing here knows any weights.
Letters: B clips, N tokens, C channels, F H W the video latent grid, T audio tokens, S steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from idlora_pl.generation.base_model import ClipCodecs, PromptEncoder
from idlora_pl.generation.request import Request, first_frames, voices
from idlora_pl.generation.sampling import Sampling, Stage
from idlora_pl.ltx2.schedule import sigmas as schedule
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.ltx2.upsampler import LatentUpsampler
from idlora_pl.method.flow import x_sigma
from idlora_pl.method.guidance import Velocities, VelocityField, guided
from idlora_pl.method.in_context import InContext
from idlora_pl.method.noise import Draws
from idlora_pl.method.positions import VideoGrid
from idlora_pl.method.res2s import sample_res2s
from idlora_pl.method.sampler import sample_euler
from idlora_pl.method.tokens import (
    AVSequence,
    TextContext,
    Tokens,
    audio_tokens,
    patchify_video,
    unpatchify_video,
    video_tokens,
)


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


def latent_grid(codecs: ClipCodecs, sampling: Sampling, stage: int) -> tuple[int, int, int]:
    """Return (F, H, W) of the video latents of a stage; -1 is the last one."""
    _, frames, rows, columns = codecs.video_latent_shape(sampling.n_frames, *sampling.size(stage))
    return frames, rows, columns


@dataclass(eq=False)
class Starts:
    """The sequences from which the stages of B requests start, in their order.

    Attributes:
        model: The transformer.
        codecs: Clip <-> latents.
        text: Prompt -> context.
        in_context: The recipe that the adapter was trained with.
        sampling: How to sample.
        upsampler: For stages that enlarge.
        requests: B requests which all have a face or all have none, and voices of one length or none.
    """

    model: LTX2
    codecs: ClipCodecs
    text: PromptEncoder
    in_context: InContext
    sampling: Sampling
    upsampler: LatentUpsampler | None
    requests: Sequence[Request]

    def __post_init__(self) -> None:
        """Seed the noise of every clip."""
        self._device = next(self.model.parameters()).device
        seeds, dtype = [request.seed for request in self.requests], self.model.transformer.dtype
        self._draws = Draws(seeds, self.sampling.noise, device=self._device, dtype=dtype)

    def first(self) -> AVSequence:
        """Build the noisy sequence of the first stage; the same recipe as in training."""
        batch, grids = len(self.requests), self.model.geometry
        voice = voices(self.codecs, self.requests, self._device) if self.sampling.with_reference else None
        noise, sound = self._noise(0, 0 if voice is None else voice.shape[1])
        faces, x0 = self._faces(0), torch.zeros_like(noise)
        if faces is not None:
            x0[:, : faces.shape[1]] = faces
        sigma, given = torch.ones(batch, device=self._device), torch.full((batch,), faces is not None)
        return self._recipe.assemble(
            video_tokens(x0, noise, sigma, shape=self._grid(0), first_frame=given.to(self._device), grid=grids.video),
            audio_tokens(torch.zeros_like(sound), sound, sigma, grid=grids.audio),
            self._context([request.prompt for request in self.requests]),
            voice,
            grids.audio,
        )

    def refined(self, done: AVSequence, index: int) -> AVSequence:
        """Build the start of a later stage from the end of the one before."""
        stage = self.sampling.stages[index]
        video = unpatchify_video(done.video.latents, self._grid(index - 1))
        if stage.upscale > 1:
            assert self.upsampler is not None  # the pipeline has refused such a stage without one
            video = self.upsampler(video)
        noise, sound = self._noise(index, 0 if stage.frozen_audio else done.audio.n_reference)
        return refined_start(
            done,
            video,
            noise=noise,
            sigma=float(stage_sigmas(stage, noise.shape[1])[0]),
            grid=self.model.geometry.video,
            first_frame=self._faces(index),
            audio_noise=None if stage.frozen_audio else sound,
        )

    def fresh(self, av: AVSequence) -> Iterator[Tensor]:
        """Return the fresh noise of the stage that starts from `av`; only "res2s" takes any."""
        return self._draws.fresh(av)

    def negative(self) -> TextContext | None:
        """Return the context (B) of the negative prompt, when a stage reads it."""
        if not any(stage.needs_negative for stage in self.sampling.stages):
            return None
        return self._context([self.sampling.negative_prompt]).expand(len(self.requests))

    @property
    def _recipe(self) -> InContext:
        if self.sampling.recipe == "trained":
            return self.in_context
        return replace(self.in_context, video_sees_reference=True, reference_sees_text=True, positions="mixed")

    def _grid(self, stage: int) -> tuple[int, int, int]:
        return latent_grid(self.codecs, self.sampling, stage)

    def _noise(self, stage: int, n_reference: int) -> tuple[Tensor, Tensor]:
        """Draw the noise (B, N, C) of a stage's video and target audio."""
        video, audio = self.model.preset.token_channels
        n_audio = self.codecs.n_audio_tokens(self.sampling.n_frames)
        return self._draws.stage((math.prod(self._grid(stage)), video), (n_audio, audio), n_reference=n_reference)

    def _faces(self, stage: int) -> Tensor | None:
        """Encode the first frames at the size of a stage to tokens (B, H*W, C)."""
        size, largest = self.sampling.size(stage), self.sampling.size()
        return first_frames(self.codecs, self.requests, size=size, largest=largest, device=self._device)

    def _context(self, prompts: list[str]) -> TextContext:
        context = self.text.connect(self.text.encode(prompts))
        mask = None if context.mask is None else context.mask.to(self._device)
        return TextContext(context.video.to(self._device), context.audio.to(self._device), mask)
