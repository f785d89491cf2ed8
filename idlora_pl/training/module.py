"""ID-LoRA training as a LightningModule: a frozen LTX-2 that learns to read a voice in context.

Letters: B batch, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from idlora_pl.components import load_codecs, load_text, load_transformer
from idlora_pl.data.shards import PairBatch
from idlora_pl.ltx2.lora import LoRA, attach_lora, load_adapter, load_lora_state_dict, lora_state_dict
from idlora_pl.ltx2.presets import PresetName
from idlora_pl.method.flow import sample_sigma, velocity, velocity_loss, x_sigma
from idlora_pl.method.in_context import InContext
from idlora_pl.method.tokens import AVSequence, TextContext, Tokens, patchify_audio, patchify_video
from idlora_pl.pipeline import IDLoRAPipeline
from idlora_pl.sampling import Sampling
from idlora_pl.training.optimizer import AdamW, build_optimizer

VALIDATION_SIGMAS = (0.1, 0.3, 0.5, 0.7, 0.9)
Losses = dict[Literal["video", "audio"], Tensor]


@dataclass(frozen=True)
class Noise:
    """What is drawn at random for one batch.

    Attributes:
        sigma: (B,) noise level, shared by video and audio.
        video: (B, Nv, C) Gaussian noise.
        audio: (B, Na, C) Gaussian noise.
        first_frame: (B,) bool, whether a sample's first latent frame is given clean.
    """

    sigma: Tensor
    video: Tensor
    audio: Tensor
    first_frame: Tensor


class IDLoRA(L.LightningModule):
    """Train an in-context LoRA of a base model, validate it, and generate with it.

    Args:
        base: Preset of the base model.
        weights: Its checkpoint; see `idlora_pl.components.load_components`.
        in_context: How the reference enters the sequence; stored in the adapter.
        lora: Rank, alpha and target linears.
        optimizer: Optimiser settings.
        first_frame_p: Probability that a sample's first frame is given clean, drawn per sample.
        reference_dropout: Probability that a batch is trained without its references (the paper has none).
        text_dropout: Probability that a sample's text is replaced by the empty prompt (the paper has none).
        gradient_checkpointing: Recompute blocks in the backward pass to save memory.
        adapter: Adapter to start from, or to sample and validate with.
        use_adapter: False samples from the base alone (the row without training).
        sampling: How `predict` and the callbacks sample.
        seed: Seed of everything that is drawn in training; with the step it fixes every draw.
    """

    def __init__(
        self,
        base: PresetName = "ltx2-19b",
        weights: str | None = None,
        in_context: InContext = InContext(),  # noqa: B008  (frozen)
        lora: LoRA = LoRA(),  # noqa: B008  (frozen)
        optimizer: AdamW = AdamW(),  # noqa: B008  (frozen)
        first_frame_p: float = 0.9,
        reference_dropout: float = 0.0,
        text_dropout: float = 0.0,
        gradient_checkpointing: bool = True,
        adapter: str | None = None,
        use_adapter: bool = True,
        sampling: Sampling = Sampling(),  # noqa: B008  (frozen)
        seed: int = 42,
    ) -> None:
        super().__init__()
        for name in ("first_frame_p", "reference_dropout", "text_dropout"):
            value = {"first_frame_p": first_frame_p, "reference_dropout": reference_dropout, "text_dropout": text_dropout}[name]
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} is a probability in [0, 1]; got {value}")
        self.base, self.weights, self.in_context, self.lora, self.sampling = base, weights, in_context, lora, sampling
        self.optimizer_settings, self.seed = optimizer, seed
        self.first_frame_p, self.reference_dropout, self.text_dropout = first_frame_p, reference_dropout, text_dropout
        self.model = load_transformer(base, weights)
        self.text = load_text(base, weights, with_language_model=False)
        self._attach(adapter, use_adapter)
        if gradient_checkpointing:
            self.model.transformer.enable_gradient_checkpointing()
        self._pipeline: IDLoRAPipeline | None = None

    @property
    def strict_loading(self) -> bool:
        """Checkpoints hold the adapter only, so the frozen base is not expected in them."""
        return False

    def _attach(self, adapter: str | None, use_adapter: bool) -> None:
        if not use_adapter:
            self.model.requires_grad_(False)
        elif adapter is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                attach_lora(self.model, self.lora.rank, self.lora.alpha, self.lora.targets)
        else:
            self.in_context = InContext.from_metadata(load_adapter(self.model, adapter))

    # -- training -------------------------------------------------------------------------------------------------

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """One step of flow matching on the target tokens, given the reference (ID-LoRA, training objective, Eq. ?)."""
        generator = self._generator(self.current_epoch, batch_idx, self.global_rank)
        noise = self.draw(batch, generator)
        keep_reference = torch.rand((), generator=generator) >= self.reference_dropout
        text = self._text(batch, generator)
        losses = self.losses(batch, noise, text, with_reference=bool(keep_reference))
        total = losses["video"] + losses["audio"]
        logged = {"loss": total, **{f"loss/{name}": value for name, value in losses.items()}}
        self.log_dict(logged, prog_bar=True, batch_size=len(noise.sigma))
        return total

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Losses of both modalities at five fixed noise levels, with noise that is the same in every epoch."""
        batch_size = len(batch.target_video)
        for level in VALIDATION_SIGMAS:
            drawn = self.draw(batch, self._generator(0, batch_idx, 0))
            sigma = torch.full_like(drawn.sigma, level)
            everyone = torch.ones_like(drawn.first_frame)
            losses = self.losses(batch, Noise(sigma, drawn.video, drawn.audio, everyone), self.text.connect(batch.text))
            named = {f"val/{name}@{level}": value for name, value in losses.items()}
            self.log_dict(named, batch_size=batch_size, sync_dist=True)
            self.log("val/loss", sum(losses.values()), batch_size=batch_size, sync_dist=True, prog_bar=True)

    def losses(self, batch: PairBatch, noise: Noise, text: TextContext, *, with_reference: bool = True) -> Losses:
        """Compute the mean squared velocity error over the tokens that are not clean, per modality."""
        av = self.noisy_sequence(batch, noise, text, with_reference=with_reference)
        v_video, v_audio = self.model(av, noise.sigma)
        video, audio = patchify_video(batch.target_video).float(), patchify_audio(batch.target_audio).float()
        return {
            "video": velocity_loss(v_video, velocity(video, noise.video), av.video.clean),
            "audio": velocity_loss(v_audio, velocity(audio, noise.audio), av.audio.target().clean),
        }

    def noisy_sequence(
        self, batch: PairBatch, noise: Noise, text: TextContext, *, with_reference: bool = True
    ) -> AVSequence:
        """Build the sequence at noise level sigma; at sigma 1 it is the one that sampling starts from.

        Args:
            batch: Targets and references as latents.
            noise: What was drawn.
            text: Context of the prompts.
            with_reference: Whether the voice is given.
        """
        frames, rows, columns = batch.target_video.shape[-3:]
        video, audio = patchify_video(batch.target_video).float(), patchify_audio(batch.target_audio).float()
        clean = torch.zeros(video.shape[:2], dtype=torch.bool, device=video.device)
        clean[:, : rows * columns] = noise.first_frame[:, None]
        clean_audio = torch.zeros(audio.shape[:2], dtype=torch.bool, device=audio.device)
        grid, batch_size = self.model.geometry, len(video)
        video_positions = grid.video.positions(frames, rows, columns).to(video.device)
        audio_positions = grid.audio.positions(audio.shape[1]).to(audio.device)
        return self.in_context.assemble(
            Tokens(
                x_sigma(video, noise.video, noise.sigma, clean), video_positions.expand(batch_size, -1, -1, -1), clean
            ),
            Tokens(
                x_sigma(audio, noise.audio, noise.sigma, clean_audio),
                audio_positions.expand(batch_size, -1, -1, -1),
                clean_audio,
            ),
            text,
            patchify_audio(batch.reference).float() if with_reference else None,
            grid.audio,
        )

    def draw(self, batch: PairBatch, generator: torch.Generator) -> Noise:
        """Draw noise level, noise and first-frame coin of every sample of a batch from a CPU generator."""
        batch_size, channels, *grid = batch.target_video.shape
        n_video = int(np.prod(grid))
        audio_shape = patchify_audio(batch.target_audio).shape
        device = batch.target_video.device
        noise = Noise(
            sample_sigma(batch_size, n_video, generator),
            torch.randn(batch_size, n_video, channels, generator=generator),
            torch.randn(audio_shape, generator=generator),
            torch.rand(batch_size, generator=generator) < self.first_frame_p,
        )
        return Noise(*(value.to(device) for value in (noise.sigma, noise.video, noise.audio, noise.first_frame)))

    def _text(self, batch: PairBatch, generator: torch.Generator) -> TextContext:
        context = self.text.connect(batch.text)
        if not self.text_dropout:
            return context
        empty = self.text.connect(self.text.encode([""]))
        dropped = torch.rand(len(context.video), generator=generator) < self.text_dropout
        chosen = dropped.to(context.video.device)[:, None, None]
        return TextContext(
            torch.where(chosen, empty.video.to(context.video), context.video),
            torch.where(chosen, empty.audio.to(context.audio), context.audio),
        )

    def _generator(self, *place: int) -> torch.Generator:
        """Return a generator that is a function of the seed and of a place in training, so a resume draws the same."""
        state = np.random.SeedSequence([self.seed, *place]).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(state) % 2**63)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW on the adapter, with a rate that falls linearly over the whole run."""
        trainable = [weight for weight in self.model.parameters() if weight.requires_grad]
        return build_optimizer(self.optimizer_settings, trainable, int(self.trainer.estimated_stepping_batches))

    # -- checkpoints: the adapter and nothing else ----------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep only the adapter's tensors and the recipe."""
        checkpoint["state_dict"] = {name: weight.detach().cpu() for name, weight in lora_state_dict(self.model).items()}
        checkpoint["in_context"] = self.in_context.to_metadata()

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Restore the adapter; refuse a checkpoint that was trained with another recipe."""
        stored = InContext.from_metadata(checkpoint["in_context"])
        if stored != self.in_context:
            raise ValueError(
                f"checkpoint was trained with {stored}, this run is configured with {self.in_context}: "
                "resume with the config.yaml of the run that wrote it"
            )
        load_lora_state_dict(self.model, checkpoint["state_dict"])

    # -- sampling -------------------------------------------------------------------------------------------------

    @property
    def pipeline(self) -> IDLoRAPipeline:
        """The generator that `predict` and the callbacks use, around the weights being trained."""
        if self._pipeline is None:
            codecs, text = load_codecs(self.base, self.weights), load_text(self.base, self.weights)
            for part in (codecs, text):
                if isinstance(part, nn.Module):
                    part.to(self.device)
            self._pipeline = IDLoRAPipeline(self.model, codecs, text, self.in_context, self.sampling)
        return self._pipeline

    def predict_step(self, batch: list[dict[str, Any]], batch_idx: int) -> list[tuple[dict[str, Any], Any]]:
        """Generate one clip for each entry of a prompts file; returns (entry, clip) pairs for the writer."""
        pipeline = self.pipeline
        requests = [
            pipeline.request(
                entry["prompt"], face=entry["first_frame_path"], voice=entry["reference_path"], seed=entry["seed"]
            )
            for entry in batch
        ]
        return list(zip(batch, pipeline.generate(requests), strict=True))


def adapter_metadata(module: IDLoRA, **extra: str) -> dict[str, str]:
    """Return what an adapter file tells about itself: recipe, steps and whatever else is passed."""
    return {**module.in_context.to_metadata(), "steps": str(module.global_step), **extra}


