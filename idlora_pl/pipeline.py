"""Prompt, face and voice in, a talking clip out: the only way to generate.

Letters: B clips, F frames, H W pixels, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from idlora_pl.components import ClipCodecs, PromptEncoder, attach_adapter, load_components
from idlora_pl.ltx2.presets import PresetName
from idlora_pl.ltx2.schedule import sigmas
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.media import Clip
from idlora_pl.method.clip_tokens import audio_tokens, video_tokens
from idlora_pl.method.guidance import guided
from idlora_pl.method.in_context import InContext
from idlora_pl.method.sampler import noise_tokens, sample_euler
from idlora_pl.method.tokens import (
    AVSequence,
    TextContext,
    patchify_audio,
    patchify_video,
    unpatchify_audio,
    unpatchify_video,
)
from idlora_pl.request import Request, alike, read_request
from idlora_pl.sampling import Sampling, default_sampling

File = str | Path | None
OnStep = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class IDLoRAPipeline:
    """Generate talking clips with a base model and an adapter.

    Attributes:
        model: The transformer, with or without an adapter.
        codecs: Clip <-> latents.
        text: Prompt -> context.
        in_context: The recipe that the adapter was trained with.
        sampling: How to sample.
    """

    model: LTX2
    codecs: ClipCodecs
    text: PromptEncoder
    in_context: InContext = field(default_factory=InContext)
    sampling: Sampling = field(default_factory=Sampling)

    @classmethod
    def from_pretrained(
        cls,
        base: PresetName,
        *,
        weights: str | Path | None = None,
        adapter: str | Path | None = None,
        in_context: InContext | None = None,
        sampling: Sampling | None = None,
        device: str = "cpu",
    ) -> Self:
        """Load a base model and an adapter; the in-context recipe is read from the adapter's metadata.

        Args:
            base: Preset name.
            weights: See `idlora_pl.components.load_components`.
            adapter: A safetensors file; None samples from the base alone.
            in_context: The recipe of an adapter that does not tell its own, such as the authors' files.
            sampling: None takes the released scripts' settings, for "nano" those of its clips.
            device: Where to run.
        """
        parts = load_components(base, weights)
        recipe = in_context or InContext()
        if adapter is not None:
            recipe = attach_adapter(parts.model, adapter, in_context)
        for part in (parts.model, parts.codecs, parts.text):
            if isinstance(part, torch.nn.Module):
                part.to(device)
        return cls(parts.model.eval(), parts.codecs, parts.text, recipe, sampling or default_sampling(base))

    def __call__(self, prompt: str, *, face: File = None, voice: File = None, seed: int | None = None) -> Clip:
        """Generate one clip from files: see `request` and `generate`."""
        return self.generate([self.request(prompt, face=face, voice=voice, seed=seed)])[0]

    def request(self, prompt: str, *, face: File = None, voice: File = None, seed: int | None = None) -> Request:
        """Read the files of one request at the size of `sampling`; see `idlora_pl.request.read_request`."""
        size = (self.sampling.height, self.sampling.width)
        seed = self.sampling.seed if seed is None else seed
        return read_request(prompt, face=face, voice=voice, size=size, seed=seed)

    def generate(self, requests: Sequence[Request], *, on_step: OnStep | None = None) -> list[Clip]:
        """Generate one clip a request.

        Args:
            requests: Requests with and without a face or a voice may be mixed.
            on_step: Called with (step, steps) after each sampling step of a batch.

        Returns:
            Clips in the order of the requests.
        """
        clips: dict[int, Clip] = {}
        for group in alike(requests):
            for start in range(0, len(group), self.sampling.batch_size):
                part = group[start : start + self.sampling.batch_size]
                made = self._decode(self.sample([requests[index] for index in part], on_step))
                clips.update(zip(part, made, strict=True))
        return [clips[index] for index in range(len(requests))]

    @torch.no_grad()
    def sample(self, requests: Sequence[Request], on_step: OnStep | None = None) -> AVSequence:
        """Sample the latents of B requests that `sequence` can take together."""
        set_up, start = self.sampling, self.sequence(requests)
        negative = None
        if set(set_up.text_scale) != {1.0}:
            negative = self._context([set_up.negative_prompt]).expand(len(requests))
        terms = set_up.guidance(self.model.preset.stg_block)
        return sample_euler(
            lambda av, sigma: guided(self.model, av, sigma, terms, negative),
            start,
            sigmas(set_up.steps, set_up.shift_tokens or start.video.n_tokens),
            None if on_step is None else lambda step, _: on_step(step, set_up.steps),
        )

    @torch.no_grad()
    def sequence(self, requests: Sequence[Request]) -> AVSequence:
        """Build the noisy sequence that sampling starts from; the same recipe as in training.

        Args:
            requests: B requests which all have a face or all have none, and voices of one length or none.
        """
        seeds, grids, widths = [r.seed for r in requests], self.model.geometry, self.model.preset.token_channels
        n_audio = self.codecs.n_audio_tokens(self.sampling.n_frames)
        noise = noise_tokens(seeds, math.prod(self._grid), widths[0]).to(self._device)
        sound = noise_tokens(seeds, n_audio, widths[1], stream=1).to(self._device)
        faces, x0 = self._faces(requests), torch.zeros_like(noise)
        if faces is not None:
            x0[:, : faces.shape[1]] = faces
        sigma = torch.ones(len(requests), device=self._device)
        given = torch.full((len(requests),), faces is not None, device=self._device)
        return self.in_context.assemble(
            video_tokens(x0, noise, sigma, shape=self._grid, first_frame=given, grid=grids.video),
            audio_tokens(torch.zeros_like(sound), sound, sigma, grid=grids.audio),
            self._context([request.prompt for request in requests]),
            self._references(requests) if self.sampling.with_reference else None,
            grids.audio,
        )

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def _grid(self) -> tuple[int, int, int]:
        set_up = self.sampling
        _, frames, rows, columns = self.codecs.video_latent_shape(set_up.n_frames, set_up.height, set_up.width)
        return frames, rows, columns

    def _context(self, prompts: list[str]) -> TextContext:
        context = self.text.connect(self.text.encode(prompts))
        mask = None if context.mask is None else context.mask.to(self._device)
        return TextContext(context.video.to(self._device), context.audio.to(self._device), mask)

    def _faces(self, requests: Sequence[Request]) -> Tensor | None:
        """Encode the first frames to tokens (B, H*W, C)."""
        faces = [request.face for request in requests if request.face is not None]
        size = (self.sampling.height, self.sampling.width)
        wrong = next((face for face in faces if tuple(face.shape[1:]) != size), None)
        if wrong is not None:
            raise ValueError(
                f"face has {wrong.shape[1]}x{wrong.shape[2]} pixels, sampling is set to {size[0]}x{size[1]}: "
                "read it with read_image(path, size=...) or change sampling.height and sampling.width"
            )
        if not faces:
            return None
        return patchify_video(self.codecs.encode_video(torch.stack(faces)[:, None].to(self._device)))

    def _references(self, requests: Sequence[Request]) -> Tensor | None:
        """Encode the voices to tokens (B, R, C)."""
        voices = [(request.voice, request.voice_rate_hz) for request in requests if request.voice is not None]
        if not voices:
            return None
        latents = [self.codecs.encode_audio(sound[None].to(self._device), rate) for sound, rate in voices]
        return patchify_audio(torch.cat(latents))

    @torch.no_grad()
    def _decode(self, av: AVSequence) -> list[Clip]:
        video = unpatchify_video(av.video.latents, self._grid).float()
        audio = unpatchify_audio(av.audio.target().latents, self.codecs.audio_channels).float()
        frames, sound = self.codecs.decode_video(video).cpu(), self.codecs.decode_audio(audio).float().cpu()
        rates = self.codecs.geometry.video.frame_rate_fps, self.codecs.sample_rate_hz
        return [Clip(picture, voice.clamp(-1, 1), *rates) for picture, voice in zip(frames, sound, strict=True)]
