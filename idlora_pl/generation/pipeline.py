"""Prompt, face and voice in, a talking clip out: the only way to generate.

Letters: B clips, F frames, H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import torch

from idlora_pl.generation.base_model import ClipCodecs, Components, PromptEncoder, attach_adapter, load_components
from idlora_pl.generation.request import Request, alike, decoded, read_request
from idlora_pl.generation.sampling import Sampling, default_sampling, refuse_missing_files, refuse_missing_weights
from idlora_pl.generation.stages import Starts, latent_grid, sample_stage
from idlora_pl.ltx2.lora import has_distilled, load_distilled, strengths
from idlora_pl.ltx2.presets import PresetName
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.ltx2.upsampler import LatentUpsampler, load_upsampler
from idlora_pl.media.clip import Clip
from idlora_pl.method.in_context import InContext
from idlora_pl.method.tokens import AVSequence

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
        upsampler: For stages that enlarge what the one before made.
    """

    model: LTX2
    codecs: ClipCodecs
    text: PromptEncoder
    in_context: InContext = field(default_factory=InContext)
    sampling: Sampling = field(default_factory=Sampling)
    upsampler: LatentUpsampler | None = None

    def __post_init__(self) -> None:
        """Refuse stages that need weights which are not there."""
        given = {"upsampler": self.upsampler is not None, "distilled_lora": has_distilled(self.model)}
        refuse_missing_weights(self.sampling, self.model.preset.name, **given)

    @classmethod
    def from_pretrained(
        cls,
        base: PresetName,
        *,
        weights: str | Path | None = None,
        gemma: str | Path | None = None,
        adapter: str | Path | None = None,
        in_context: InContext | None = None,
        sampling: Sampling | None = None,
        upsampler: str | Path | None = None,
        distilled_lora: str | Path | None = None,
        device: str = "cpu",
    ) -> Self:
        """Load a base model and an adapter; the in-context recipe is read from the adapter's metadata.

        Args:
            base: Preset name.
            weights: See `idlora_pl.generation.base_model.load_components`.
            gemma: Folder of the language model, when the checkpoint holds none.
            adapter: A safetensors file; None samples from the base alone.
            in_context: The recipe of an adapter that does not tell its own, such as the authors' files.
            sampling: None takes the released scripts' settings, for "nano" those of its clips.
            upsampler: Latent upsampler; see `idlora_pl.ltx2.upsampler.LatentUpsampler.from_pretrained`.
            distilled_lora: Distilled LoRA; see `idlora_pl.ltx2.lora.load_distilled`.
            device: Where to run.
        """
        sampling = sampling or default_sampling(base)
        refuse_missing_weights(sampling, base, upsampler=bool(upsampler), distilled_lora=bool(distilled_lora))
        refuse_missing_files(upsampler=upsampler, distilled_lora=distilled_lora)
        parts, recipe = load_components(base, weights, gemma), in_context or InContext()
        if adapter is not None:
            recipe = attach_adapter(parts.model, adapter, in_context)
        parts.model.to(device).eval()
        return cls.assembled(parts, recipe, sampling, upsampler=upsampler, distilled_lora=distilled_lora)

    @classmethod
    def assembled(
        cls, parts: Components, in_context: InContext, sampling: Sampling, *, upsampler: File, distilled_lora: File
    ) -> Self:
        """Build from loaded parts, on the model's device, and load what refining stages need beside them.

        Args:
            parts: The transformer, with or without an adapter; codecs; text encoder.
            in_context: The recipe that the adapter was trained with.
            sampling: How to sample.
            upsampler: Latent upsampler, or None.
            distilled_lora: Distilled LoRA, or None; it is frozen and has no strength outside its stages.
        """
        device = next(parts.model.parameters()).device
        for part in (parts.codecs, parts.text):
            if isinstance(part, torch.nn.Module):
                part.to(device)
        if distilled_lora is not None:
            load_distilled(parts.model, distilled_lora)
        network = None if upsampler is None else load_upsampler(upsampler, parts.codecs).to(device)
        return cls(parts.model, parts.codecs, parts.text, in_context, sampling, network)

    def __call__(self, prompt: str, *, face: File = None, voice: File = None, seed: int | None = None) -> Clip:
        """Generate one clip from files: see `request` and `generate`."""
        return self.generate([self.request(prompt, face=face, voice=voice, seed=seed)])[0]

    def request(self, prompt: str, *, face: File = None, voice: File = None, seed: int | None = None) -> Request:
        """Read the files of one request at the size of the clip; see `idlora_pl.generation.request.read_request`."""
        seed = self.sampling.seed if seed is None else seed
        return read_request(prompt, face=face, voice=voice, size=self.sampling.size(), seed=seed)

    def generate(self, requests: Sequence[Request], *, on_step: OnStep | None = None) -> list[Clip]:
        """Generate one clip a request, in the precision of the weights: autocast, as of a trainer, is off.

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
        """Sample the latents of B requests that `sequence` can take together, through all stages."""
        with self._own_precision():
            return self._sampled(self._starts(requests), on_step)

    def _sampled(self, starts: Starts, on_step: OnStep | None) -> AVSequence:
        stages, done = self.sampling.stages, 0
        total = sum(stage.n_steps for stage in stages)
        av, negative = starts.first(), starts.negative()
        for index, stage in enumerate(stages):
            if index:
                av = starts.refined(av, index)
            report = None if on_step is None else partial(_report, on_step, done, total)
            with strengths(self.model, adapter=stage.adapter_scale, distilled=stage.distilled_scale):
                av = sample_stage(
                    self.model,
                    av,
                    stage,
                    stg_block=self.model.preset.stg_block,
                    negative=negative,
                    draw=starts.fresh(av),
                    on_step=report,
                )
            done += stage.n_steps
        return av

    @torch.no_grad()
    def sequence(self, requests: Sequence[Request]) -> AVSequence:
        """Build the noisy sequence that sampling starts from; the same recipe as in training.

        Args:
            requests: B requests which all have a face or all have none, and voices of one length or none.
        """
        with self._own_precision():
            return self._starts(requests).first()

    def _own_precision(self) -> torch.autocast:
        return torch.autocast(next(self.model.parameters()).device.type, enabled=False)

    def _starts(self, requests: Sequence[Request]) -> Starts:
        return Starts(self.model, self.codecs, self.text, self.in_context, self.sampling, self.upsampler, requests)

    @torch.no_grad()
    def _decode(self, av: AVSequence) -> list[Clip]:
        grid = latent_grid(self.codecs, self.sampling, -1)
        with self._own_precision():
            return decoded(self.codecs, av, grid, tiled=bool(self.sampling.then))


def _report(on_step: OnStep, done: int, total: int, step: int, _: AVSequence) -> None:
    on_step(done + step, total)
