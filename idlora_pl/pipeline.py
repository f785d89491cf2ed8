"""Prompt, face and voice in, a talking clip out: the only way to generate.

Letters: B clips, F frames, H W pixels, S samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from idlora_pl.components import ClipCodecs, PromptEncoder, load_components
from idlora_pl.ltx2.lora import load_adapter
from idlora_pl.ltx2.presets import PresetName
from idlora_pl.ltx2.schedule import sigmas
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.media import Clip, read_audio, read_image
from idlora_pl.method.guidance import guided
from idlora_pl.method.in_context import InContext
from idlora_pl.method.sampler import noise_tokens, sample_euler
from idlora_pl.method.tokens import AVSequence, TextContext, Tokens, patchify_audio, patchify_video
from idlora_pl.method.tokens import unpatchify_audio, unpatchify_video
from idlora_pl.prompt import split_prompt
from idlora_pl.sampling import Sampling, default_sampling

@dataclass(frozen=True, eq=False)
class Request:
    """One clip to generate.

    Attributes:
        prompt: `[VISUAL]: ... [SPEECH]: ... [SOUNDS]: ...`
        face: First frame, uint8 (3, H, W), or None.
        voice: Reference waveform (channels, S) in [-1, 1], or None.
        voice_rate_hz: Sample rate of the voice.
        seed: Seed of the noise.
    """

    prompt: str
    face: Tensor | None = None
    voice: Tensor | None = None
    voice_rate_hz: int = 16000
    seed: int = 42


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
        sampling: Sampling | None = None,
        device: str = "cpu",
    ) -> Self:
        """Load a base model and an adapter; the in-context recipe is read from the adapter's metadata.

        Args:
            base: Preset name.
            weights: See `idlora_pl.components.load_components`.
            adapter: A safetensors file; None samples from the base alone.
            sampling: None takes the released scripts' settings, for "nano" those of its clips.
            device: Where to run.
        """
        parts = load_components(base, weights)
        in_context = InContext()
        if adapter is not None:
            in_context = InContext.from_metadata(load_adapter(parts.model, adapter))
        for part in (parts.model, parts.codecs, parts.text):
            if isinstance(part, torch.nn.Module):
                part.to(device)
        return cls(parts.model.eval(), parts.codecs, parts.text, in_context, sampling or default_sampling(base))

    def __call__(self, prompt: str, *, face: str | Path | None, voice: str | Path | None, seed: int | None = None) -> Clip:
        """Generate one clip from files; see `generate`."""
        return self.generate([self.request(prompt, face=face, voice=voice, seed=seed)])[0]

    def request(
        self, prompt: str, *, face: str | Path | None = None, voice: str | Path | None = None, seed: int | None = None
    ) -> Request:
        """Read the files of one request: a first-frame image and a voice recording (or any clip with sound).

        Raises:
            ValueError: If the prompt lacks a section or a file is not what it should be; the message names it.
        """
        split_prompt(prompt)
        size = (self.sampling.height, self.sampling.width)
        image = None if face is None else read_image(face, size=size)
        sound, rate = (None, 16000) if voice is None else read_audio(voice)
        return Request(prompt, image, sound, rate, self.sampling.seed if seed is None else seed)

    def generate(
        self, requests: Sequence[Request], *, on_step: Callable[[int, int], None] | None = None
    ) -> list[Clip]:
        """Generate one clip a request.

        Args:
            requests: Requests with and without a face or a voice may be mixed.
            on_step: Called with (step, steps) after each sampling step of a batch.

        Returns:
            Clips in the order of the requests.
        """
        clips: dict[int, Clip] = {}
        for group in _alike(requests):
            for start in range(0, len(group), self.sampling.batch_size):
                part = group[start : start + self.sampling.batch_size]
                made = self._generate([requests[index] for index in part], on_step)
                clips.update(zip(part, made, strict=True))
        return [clips[index] for index in range(len(requests))]

    @torch.no_grad()
    def _generate(self, requests: Sequence[Request], on_step: Callable[[int, int], None] | None) -> list[Clip]:
        set_up, plan = self.sampling, self.sequence(requests)
        negative = self._context([self.sampling.negative_prompt]) if set(set_up.text_scale) != {1.0} else None
        if negative is not None:
            negative = TextContext(*(x.expand(len(requests), -1, -1) for x in (negative.video, negative.audio)))
        n_tokens = set_up.shift_tokens or plan.video.n_tokens
        terms = set_up.guidance(self.model.preset.stg_block)
        end = sample_euler(
            lambda av, sigma: guided(self.model, av, sigma, terms, negative),
            plan,
            sigmas(set_up.steps, n_tokens),
            None if on_step is None else lambda step, _: on_step(step, set_up.steps),
        )
        return self._decode(end)

    def sequence(self, requests: Sequence[Request]) -> AVSequence:
        """Build the noisy sequence that sampling starts from; the same recipe as in training.

        Args:
            requests: B requests which all have a face or all have none, and voices of one length or none.
        """
        set_up, device = self.sampling, self._device
        shape = self.codecs.video_latent_shape(set_up.n_frames, set_up.height, set_up.width)
        n_audio = self.codecs.n_audio_tokens(set_up.n_frames)
        seeds = [request.seed for request in requests]
        video_channels, audio_channels = self.model.preset.token_channels
        grid, first = self.model.geometry, shape[2] * shape[3]
        n_video = shape[1] * first
        video = noise_tokens(seeds, n_video, video_channels).to(device)
        clean = torch.zeros(len(requests), n_video, dtype=torch.bool, device=device)
        if requests[0].face is not None:
            faces = torch.stack([request.face for request in requests if request.face is not None])
            video[:, :first] = patchify_video(self.codecs.encode_video(faces[:, None].to(device)))
            clean[:, :first] = True
        audio = noise_tokens(seeds, n_audio, audio_channels, stream=1).to(device)
        return self.in_context.assemble(
            Tokens(video, grid.video.positions(*shape[1:]).to(device).expand(len(requests), -1, -1, -1), clean),
            Tokens(
                audio,
                grid.audio.positions(n_audio).to(device).expand(len(requests), -1, -1, -1),
                torch.zeros(audio.shape[:2], dtype=torch.bool, device=device),
            ),
            self._context([request.prompt for request in requests]),
            self._references(requests),
            grid.audio,
        )

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _context(self, prompts: list[str]) -> TextContext:
        return self.text.connect(self.text.encode(prompts))

    def _references(self, requests: Sequence[Request]) -> Tensor | None:
        voices = [(request.voice, request.voice_rate_hz) for request in requests if request.voice is not None]
        if not voices:
            return None
        latents = [self.codecs.encode_audio(sound[None].to(self._device), rate) for sound, rate in voices]
        return patchify_audio(torch.cat(latents))

    def _decode(self, av: AVSequence) -> list[Clip]:
        set_up = self.sampling
        shape = self.codecs.video_latent_shape(set_up.n_frames, set_up.height, set_up.width)
        frames = self.codecs.decode_video(unpatchify_video(av.video.latents, shape[1:]).float()).cpu()
        sound = self.codecs.decode_audio(unpatchify_audio(av.audio.target().latents, self.codecs.audio_channels).float())
        rate = self.codecs.geometry.video.frame_rate_fps
        pairs = zip(frames, sound.float().cpu(), strict=True)
        return [Clip(picture, voice.clamp(-1, 1), rate, self.codecs.sample_rate_hz) for picture, voice in pairs]


def _alike(requests: Sequence[Request]) -> list[list[int]]:
    """Group the indices of requests whose sequences have one shape."""
    groups: dict[tuple[bool, int, int], list[int]] = {}
    for index, request in enumerate(requests):
        length = 0 if request.voice is None else request.voice.shape[-1]
        groups.setdefault((request.face is None, length, request.voice_rate_hz), []).append(index)
    return list(groups.values())
