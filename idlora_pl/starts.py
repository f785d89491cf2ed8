"""What the stages of a batch start from: the first from noise, a later one from what was made before.

Letters: B clips, N tokens, C channels, F H W the video latent grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from idlora_pl.clip_latents import first_frames, voices
from idlora_pl.components import ClipCodecs, PromptEncoder
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.ltx2.upsampler import LatentUpsampler
from idlora_pl.method.in_context import InContext
from idlora_pl.method.noise import Draws
from idlora_pl.method.tokens import AVSequence, TextContext, audio_tokens, unpatchify_video, video_tokens
from idlora_pl.request import Request
from idlora_pl.sampling import Sampling
from idlora_pl.stages import refined_start, stage_sigmas


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
