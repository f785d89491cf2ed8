"""ID-LoRA training as a LightningModule: a frozen LTX-2 that learns to read a voice in context.

A shard set must have been made for the base model that is trained on it, and divide into steps.
Letters: B batch, N tokens, C channels.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from idlora_pl.benchmark.items import Item
from idlora_pl.data.datamodule import PairedClips, batches_a_step
from idlora_pl.data.samples import PairBatch, ShardError
from idlora_pl.data.shards import ShardIndex
from idlora_pl.generation.base_model import Components, attach_adapter, load_codecs, load_text, load_transformer
from idlora_pl.generation.pipeline import IDLoRAPipeline
from idlora_pl.generation.sampling import Sampling, default_sampling, refuse_missing_files, refuse_missing_weights
from idlora_pl.ltx2.adapter_format import LoRA
from idlora_pl.ltx2.lora import attach_lora, attached_lora
from idlora_pl.ltx2.memory.checkpointing import set_checkpointing
from idlora_pl.ltx2.memory.levels import Memory, apply_memory, swapped_blocks
from idlora_pl.ltx2.presets import DEFAULT_BASE, Preset, PresetName
from idlora_pl.media.clip import Clip
from idlora_pl.method.in_context import InContext
from idlora_pl.method.noise import checked_seed
from idlora_pl.method.tokens import TextContext, TextFeatures
from idlora_pl.training.checkpoint import adapter_state, continued, refuse_other_adapter, restore_adapter
from idlora_pl.training.noise import Noise, draw_noise, generator_at, torch_seed, validation_generator
from idlora_pl.training.objective import Losses, Objective, flow_losses
from idlora_pl.training.optimizer import AdamW, build_optimizer, state_bits
from idlora_pl.training.precision import refuse_precision

_SETTINGS = ("base", "seed", "first_frame_p", "reference_dropout", "text_dropout")
VALIDATION_SIGMAS = (0.1, 0.3, 0.5, 0.7, 0.9)


class IDLoRA(L.LightningModule):
    """Train an in-context LoRA of a base model, validate it, and generate with it.

    Args:
        base: Preset of the base model.
        weights: Its checkpoint; see `idlora_pl.generation.base_model.load_components`.
        gemma: Folder of its language model, when the checkpoint holds none.
        in_context: How the reference enters the sequence; stored in the adapter.
        lora: Rank, alpha and target linears.
        optimizer: Optimiser settings.
        objective: Where training differs from the authors'.
        first_frame_p: Probability that a sample's first frame is given clean.
        reference_dropout: Probability that a batch is trained without its references (the paper has none).
        text_dropout: Probability that a sample's text is replaced by the empty prompt (the paper has none).
        gradient_checkpointing: Recompute blocks in the backward pass to save memory; false is checkpointing none.
        memory: How the frozen weights are kept, and which blocks are recomputed.
        adapter: Adapter to start from, or to sample and validate with.
        use_adapter: False samples from the base alone (the row without training).
        sampling: How `predict` and the callbacks sample; None takes `default_sampling` of the base.
        upsampler: Latent upsampler for stages of `sampling` that enlarge; a folder or a safetensors file.
        distilled_lora: Distilled LoRA for stages of `sampling` that want it; never part of training.
        seed: Seed of everything that is drawn in training; with the step it fixes every draw.
    """

    def __init__(
        self,
        base: PresetName = DEFAULT_BASE,
        weights: str | None = None,
        gemma: str | None = None,
        in_context: InContext = InContext(),  # noqa: B008  (frozen)
        lora: LoRA = LoRA(),  # noqa: B008  (frozen)
        optimizer: AdamW = AdamW(),  # noqa: B008  (frozen)
        objective: Objective = Objective(),  # noqa: B008  (frozen)
        first_frame_p: float = 0.9,
        reference_dropout: float = 0.0,
        text_dropout: float = 0.0,
        gradient_checkpointing: bool = True,
        memory: Memory = Memory(),  # noqa: B008  (frozen)
        adapter: str | None = None,
        use_adapter: bool = True,
        sampling: Sampling | None = None,
        upsampler: str | None = None,
        distilled_lora: str | None = None,
        seed: int = 42,
    ) -> None:
        super().__init__()
        self.first_frame_p = probability("first_frame_p", first_frame_p)
        self.reference_dropout = probability("reference_dropout", reference_dropout)
        self.text_dropout = probability("text_dropout", text_dropout)
        sampling = sampling or default_sampling(base)
        refuse_missing_weights(sampling, base, upsampler=bool(upsampler), distilled_lora=bool(distilled_lora))
        refuse_missing_files(upsampler=upsampler, distilled_lora=distilled_lora)
        self.base, self.weights, self.in_context, self.lora, self.sampling = base, weights, in_context, lora, sampling
        self.upsampler, self.distilled_lora, self.gemma = upsampler, distilled_lora, gemma
        self.optimizer_settings, self.objective, self.seed = optimizer, objective, checked_seed(seed, "model.seed")
        self.memory = memory if gradient_checkpointing else memory.without_recomputing()
        self.model = load_transformer(base, weights)
        self.text = load_text(base, weights, with_language_model=False)
        if text_dropout:
            self._empty = load_text(base, weights, gemma=gemma).encode([""])
        self._attach(adapter, use_adapter)
        self._pipeline: IDLoRAPipeline | None = None
        self._changed, self._memory_is_applied = "", self.memory.is_plain

    def _attach(self, adapter: str | None, use_adapter: bool) -> None:
        self.strict_loading = False  # checkpoints hold the adapter, not the frozen base
        self.model.requires_grad_(False)
        swapped_blocks(self.memory, len(self.model.transformer.transformer_blocks))  # refuses what does not fit
        set_checkpointing(self.model, self.memory.checkpointing)
        if adapter is not None and use_adapter:
            self.in_context = attach_adapter(self.model, adapter, self.in_context)
        elif use_adapter:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(torch_seed(self.seed))
                attach_lora(self.model, self.lora.rank, self.lora.alpha, self.lora.targets)

    def setup(self, stage: str) -> None:
        """Refuse a precision that is not supported, and shards of another base model; apply the memory settings."""
        refuse_precision(self.trainer.precision_plugin)
        data = getattr(self.trainer, "datamodule", None)
        found = data.indices if isinstance(data, PairedClips) and stage in ("fit", "validate") else {}
        for name, index in found.items():
            refuse_other_base(index, name, self.model.preset)
        if not self._memory_is_applied:
            self.trainer.precision_plugin.convert_module(self.model)  # rounds the base before it is coded
            apply_memory(self.model, self.memory, self.trainer.strategy.root_device)
            self._memory_is_applied = True

    def on_train_start(self) -> None:
        """Refuse an epoch whose last optimiser step would have fewer batches; tell what a resume changes."""
        refuse_uneven_steps(self.trainer)
        if self._changed and self.trainer.is_global_zero:
            print(f"idlora: {self._changed}", file=sys.stderr)

    # -- training -------------------------------------------------------------------------------------------------

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """One step of flow matching on the target tokens, given the reference (ID-LoRA, training objective, Eq. ?)."""
        generator = generator_at(self.seed, self.current_epoch, batch_idx, self.global_rank)
        noise = self.objective.draw(batch, self.first_frame_p, generator, self.model.preset)
        keep_reference = torch.rand((), generator=generator) >= self.reference_dropout
        text = self._text(batch, generator)
        losses = self.losses(batch, noise, text, with_reference=bool(keep_reference))
        total = losses["video"] + losses["audio"]
        logged = {"loss": total, **{f"loss/{name}": value for name, value in losses.items()}}
        self.log_dict(logged, prog_bar=True, batch_size=len(noise.sigma))
        return total

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Losses at five fixed noise levels, with the same noise in every epoch and whatever objective is trained."""
        drawn = draw_noise(batch, 1.0, validation_generator(self.seed, batch_idx, self.global_rank))
        text = self.text.connect(batch.text)
        logged: dict[str, Tensor] = {}
        for level in VALIDATION_SIGMAS:
            noise = replace(drawn, sigma=torch.full_like(drawn.sigma, level))
            losses = flow_losses(self.model, self.in_context, batch, noise, text)
            logged |= {f"val/{name}@{level}": value for name, value in losses.items()}
        logged["val/loss"] = torch.stack(list(logged.values())).sum() / len(VALIDATION_SIGMAS)
        self.log_dict(logged, batch_size=len(batch), sync_dist=True)

    def on_train_epoch_end(self) -> None:
        """Log how many clips of the epoch could not be read and were replaced, over all processes."""
        if (left_out := getattr(getattr(self.trainer, "datamodule", None), "left_out", None)) is not None:
            self.log("data/left_out", float(left_out), sync_dist=True, reduce_fx="sum")

    def losses(self, batch: PairBatch, noise: Noise, text: TextContext, *, with_reference: bool = True) -> Losses:
        """Compute the flow-matching loss per modality; see `idlora_pl.training.objective`."""
        given = self.model, self.in_context, batch, noise, text
        return flow_losses(*given, objective=self.objective, with_reference=with_reference)

    def _text(self, batch: PairBatch, generator: torch.Generator) -> TextContext:
        context = self.text.connect(batch.text)
        if not self.text_dropout:
            return context
        device = context.video.device
        empty = TextFeatures(*(x.to(device) for x in (self._empty.video, self._empty.audio, self._empty.mask)))
        dropped = torch.rand(len(batch), generator=generator) < self.text_dropout
        return context.replaced(dropped.to(device), self.text.connect(empty))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW on the adapter, with a rate that falls linearly over the whole run."""
        trainable = [weight for weight in self.model.parameters() if weight.requires_grad]
        if not trainable:
            raise ValueError("model.use_adapter is false, so there is nothing to train; set it to true")
        return build_optimizer(self.optimizer_settings, trainable, self.trainer.estimated_stepping_batches)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides how the run trains, by the keys of its configuration, in plain types; needs the trainer."""
        trainer, lora = self.trainer, attached_lora(self.model)
        varies = any(isinstance(one, GradientAccumulationScheduler) for one in trainer.callbacks)  # type: ignore[attr-defined]
        parts: dict[str, dict[str, Any]] = {
            "lora": {} if lora is None else asdict(lora),
            "optimizer": asdict(self.optimizer_settings) | {"state_bits": state_bits(self.optimizer_settings)},
            "objective": asdict(self.objective),
            "memory": {"weights": self.memory.weights},
        }
        return {
            **{f"model.{name}": getattr(self, name) for name in _SETTINGS},
            **{f"model.{part}.{name}": value for part, given in parts.items() for name, value in given.items()},
            "trainer.precision": str(trainer.precision),
            "trainer.max_steps": trainer.max_steps,
            "trainer.gradient_clip_val": trainer.gradient_clip_val,
            "trainer.gradient_clip_algorithm": getattr(trainer.gradient_clip_algorithm, "value", "norm"),
            "trainer.accumulate_grad_batches": None if varies else trainer.accumulate_grad_batches,
        }

    # -- checkpoints: the adapter and nothing else ----------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep only the adapter's tensors, the recipe and the settings."""
        checkpoint.update(adapter_state(self.model, self.in_context), settings=self.settings)

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Restore the adapter; refuse a checkpoint of another recipe, or of settings that cannot change amid a run."""
        if self._trainer is not None and self._trainer.state.fn == "fit":
            self._changed = continued(checkpoint, self.settings)
        elif self._trainer is not None:
            refuse_other_adapter(checkpoint, self.settings)
        restore_adapter(checkpoint, self.model, self.in_context)

    @property
    def pipeline(self) -> IDLoRAPipeline:
        """The generator that `predict` and the callbacks use, around the weights being trained."""
        if self._pipeline is None:
            codecs, text = load_codecs(self.base, self.weights), load_text(self.base, self.weights, gemma=self.gemma)
            parts = Components(self.model, codecs, text)
            extra = {"upsampler": self.upsampler, "distilled_lora": self.distilled_lora}
            self._pipeline = IDLoRAPipeline.assembled(parts, self.in_context, self.sampling, **extra)
        return self._pipeline

    def predict_step(self, batch: Sequence[Item], batch_idx: int) -> list[tuple[Item, Clip]]:
        """Generate one clip for each item of a prompt file; returns (item, clip) pairs for the callbacks."""
        requests = [
            self.pipeline.request(item.prompt, face=item.first_frame, voice=item.reference, seed=item.seed)
            for item in batch
        ]
        return list(zip(batch, self.pipeline.generate(requests), strict=True))

    def test_step(self, batch: Sequence[Item], batch_idx: int) -> dict[str, Any]:
        """Generate as in `predict_step`; the callbacks write and score `made`."""
        return {"made": self.predict_step(batch, batch_idx)}


# Tokens by which the sound may differ from the frames: the authors' sets hold 120 to 122 for 121 frames.
_SLACK_TOKENS = 1
_AGAIN = "encode the clips again with data_tools.encode_clips"


def probability(name: str, chance: float) -> float:
    """Return a chance; raise ValueError, which names the setting, when it is none."""
    if not 0.0 <= chance <= 1.0:
        raise ValueError(f"{name} is a probability in [0, 1]; got {chance}")
    return chance


def refuse_other_base(index: ShardIndex, name: str, preset: Preset) -> None:
    """Raise ShardError when the latents of a shard set are not those that a base model reads.

    Args:
        index: Of the shard set.
        name: Where it is, for the message.
        preset: The base model.
    """
    if index.codecs not in ("", preset.name):
        raise ShardError(
            f"{name} was encoded for base '{index.codecs}', model.base is '{preset.name}'; "
            f"{_AGAIN} --base {preset.name}, or set model.base to {index.codecs}"
        )
    video, audio = index.shapes["target_video"], index.shapes["target_audio"]
    found = video[0], audio[0] * audio[2]
    if found != preset.token_channels:
        raise ShardError(
            f"{name} has tokens of {found[0]} video and {found[1]} audio channels, base '{preset.name}' has "
            f"{preset.token_channels[0]} and {preset.token_channels[1]}; {_AGAIN} --base {preset.name}"
        )
    grid = preset.geometry
    rate_fps = index.settings.get("fps", grid.video.frame_rate_fps)
    if rate_fps != grid.video.frame_rate_fps:
        raise ShardError(
            f"{name} holds clips of {rate_fps:g} fps, base '{preset.name}' places frames at "
            f"{grid.video.frame_rate_fps:g} fps; make the set again from clips of that rate"
        )
    n_frames = (video[1] - 1) * grid.video.temporal_stride + 1
    duration_s = n_frames / grid.video.frame_rate_fps
    needed = grid.audio.n_tokens(duration_s)
    if abs(audio[1] - needed) > _SLACK_TOKENS:
        raise ShardError(
            f"{name} has {audio[1]} audio tokens, {n_frames} frames need {needed}; {_AGAIN} --duration {duration_s:g}"
        )


def refuse_uneven_steps(trainer: L.Trainer) -> None:
    """Raise ValueError when an epoch, or what is between two validations, does not divide into optimiser steps.

    Lightning makes a step at the end of each epoch, whatever has been accumulated, and scales it as a full one. The
    checkpoint before a validation amid a step would lose the batches of it.

    Args:
        trainer: When its loaders are known, in `on_train_start`.
    """
    n_batches, each = trainer.num_training_batches, batches_a_step(trainer)
    if trainer.fast_dev_run or each == 1:  # type: ignore[attr-defined]
        return
    if n_batches % each:
        fix = "lower accumulate_grad_batches, or give more samples or a smaller data.batch_size"
        if n_batches > each:
            fix = "set data.drop_last to true and limit_train_batches to a multiple, or choose a divisor"
        raise ValueError(
            f"trainer.accumulate_grad_batches {each} makes a step of {each} batches, and an epoch has {n_batches}, so "
            f"its last step would have {n_batches % each:g}; {fix}"
        )
    if not sum(trainer.num_val_batches):
        return
    if trainer.val_check_batch is None:  # type: ignore[attr-defined]
        asked = "a trainer.val_check_interval of minutes"
    elif trainer.val_check_batch % each:  # type: ignore[attr-defined]
        asked = f"trainer.val_check_interval {trainer.val_check_interval}"  # type: ignore[attr-defined]
    else:
        return
    raise ValueError(f"{asked} validates amid a step of {each} batches; give it a multiple of {each} batches")
