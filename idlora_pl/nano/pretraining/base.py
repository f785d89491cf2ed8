"""Pre-train the nano base from zero: `python -m idlora_pl.nano.pretraining.base` (what `make nano-base` runs).

Fits the codecs' projections, renders a corpus of clips (every clip another voice), trains the nano LTX-2 on joint
text-to-audio-video with and without a first frame, and writes `codecs.safetensors`, `base.safetensors` (bfloat16,
averaged weights) and the card `BASE.md`. The base never sees a voice reference: that is what ID-LoRA adds.

Training is flow matching from zero in a LightningModule, with Muon in float32 for many equal-shaped matrices at once:
`torch.optim.Muon` orthogonalises each matrix alone in bfloat16, which costs 2 s a step on two CPU cores for the nano
base; stacking the matrices of one shape in float32 costs 0.07 s. Nothing of that is specific to the method.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import RichProgressBar
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.flow import sample_sigma, velocity, velocity_loss
from idlora_pl.method.tokens import AVSequence, TextContext, audio_tokens, patchify_audio, patchify_video, video_tokens
from idlora_pl.nano.codecs import ASSETS, AUDIO_CHANNELS, VIDEO_CHANNELS, audio_groups, fit_projection, video_groups
from idlora_pl.nano.corpus import Corpus, Item, build_corpus, split_seed
from idlora_pl.nano.render import render
from idlora_pl.nano.text import NanoTextEncoder
from idlora_pl.nano.world import FRAME_RATE_FPS, N_FRAMES, SAMPLE_RATE_HZ, script, speaker

N_HELD_OUT = 128


def fit_codecs(output: Path, n_clips: int) -> dict[str, float]:
    """Fit and save both projections on clips of the base split; return the explained variance of each."""
    parts: dict[str, list[Tensor]] = {"video": [], "audio": []}
    for start in range(0, n_clips, 30):
        seeds = range(start, min(start + 30, n_clips))
        clips = render([speaker(split_seed("base", s)) for s in seeds], [script(split_seed("base", s)) for s in seeds])
        video = video_groups(clips.frames).flatten(0, 3)
        parts["video"].append(video[torch.randperm(len(video))[:200]].half())
        parts["audio"].append(audio_groups(clips.waveform[:, None], SAMPLE_RATE_HZ).flatten(0, 1))
    tensors, explained = {}, {}
    for name, groups in parts.items():
        data = torch.cat(groups).float()
        part = fit_projection(data, {"video": VIDEO_CHANNELS, "audio": AUDIO_CHANNELS}[name])
        tensors.update({f"{name}.{key}": value for key, value in part.items()})
        explained[f"explained_{name}"] = round(float(part["scale"].square().sum() / data.var(0).sum()), 4)
    save_file(tensors, output / "codecs.safetensors", {key: str(value) for key, value in explained.items()})
    return explained


def main(arguments: list[str] | None = None) -> None:
    """Run the whole pre-training from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ASSETS, help="folder to write; the shipped assets by default")
    parser.add_argument("--clips", type=int, default=12000)
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--keep_codecs", "--keep-codecs", action="store_true", help="use the projections already in --output"
    )
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    L.seed_everything(options.seed)
    start = time.monotonic()
    facts: dict[str, float] = {} if options.keep_codecs else fit_codecs(options.output, 1200)
    codecs = options.output / "codecs.safetensors"
    corpus = build_corpus(_clips("base", options.clips), label="rendering the corpus", codecs=codecs)
    held_out = build_corpus(_clips("validation", N_HELD_OUT), label="rendering held-out clips", codecs=codecs)
    data = TensorDataset(corpus.video, corpus.audio[:, :, :N_AUDIO], corpus.text)
    sampler = torch.utils.data.RandomSampler(data, num_samples=options.steps * options.batch)
    module = BasePretraining(options.steps)
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[RichProgressBar()]
    )
    trainer.fit(module, DataLoader(data, options.batch, sampler=sampler, drop_last=True))
    facts |= module.held_out(held_out) | {"seconds": round(time.monotonic() - start), "threads": os.cpu_count() or 1}
    weights = {
        name: weight.bfloat16().contiguous() for name, weight in module.averaged.transformer.state_dict().items()
    }
    recipe = {name: str(value) for name, value in vars(options).items() if name != "output"}
    save_file(weights, options.output / "base.safetensors", {"preset": "nano", "recipe": json.dumps(recipe)})
    _write_card(options.output / "BASE.md", recipe, facts)


def _clips(split: str, n_clips: int) -> list[Item]:
    """Every clip has another speaker."""
    seeds = [split_seed(split, index) for index in range(n_clips)]
    return [(seed, script(seed)) for seed in seeds]


def _write_card(path: Path, recipe: dict[str, str], facts: dict[str, float]) -> None:
    lines = ["# Nano base", "", "Generated by `python -m idlora_pl.nano.pretraining.base`.", ""]
    lines += _two_columns("setting", recipe)
    lines += ["", f"Losses are on {N_HELD_OUT} unseen speakers, averaged weights, by noise level.", ""]
    lines += _two_columns("fact", facts)
    path.write_text("\n".join(lines) + "\n")


def _two_columns(head: str, values: Mapping[str, object]) -> list[str]:
    return [f"| {head} | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in values.items())]


N_AUDIO = round(N_FRAMES / FRAME_RATE_FPS / 0.04)
Batch = tuple[Tensor, Tensor, Tensor]
Pair = tuple[Tensor, Tensor]


class BasePretraining(L.LightningModule):
    """Train all weights of the nano transformer on the flow-matching loss.

    Args:
        steps: Optimiser steps; the learning rate warms up over 5 % of them and falls linearly over the last 60 %.
        first_frame_p: Probability that a sample's first latent frame is given clean.
        text_dropout: Probability that a sample's prompt is replaced by the null text.
    """

    null: Tensor

    def __init__(self, steps: int, first_frame_p: float = 0.5, text_dropout: float = 0.1) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = LTX2.from_preset("nano")
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.995), use_buffers=False)
        self.average.requires_grad_(False)
        self.steps, self.first_frame_p, self.text_dropout = steps, first_frame_p, text_dropout
        self.register_buffer("null", NanoTextEncoder().encode([""]).video, persistent=False)

    @property
    def averaged(self) -> LTX2:
        """The model with averaged weights, which is the one to keep."""
        assert isinstance(self.average.module, LTX2)
        return self.average.module

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon for the matrices of the blocks, AdamW for everything else."""
        blocks = {
            name for name, weight in self.model.named_parameters() if weight.ndim == 2 and "transformer_blocks" in name
        }
        matrices = [weight for name, weight in self.model.named_parameters() if name in blocks]
        others = [weight for name, weight in self.model.named_parameters() if name not in blocks]
        return [StackedMuon(matrices, lr=0.01), torch.optim.AdamW(others, lr=2e-3, betas=(0.9, 0.98))]

    def losses(self, model: torch.nn.Module, batch: Batch, sigma: Tensor, noise: Pair) -> Pair:
        """Return the video and the audio loss of a batch at given noise levels (B,) and noise tokens."""
        video, audio, text = batch
        targets = patchify_video(video), patchify_audio(audio)
        first = torch.rand(len(video), device=self.device) < self.first_frame_p
        grids = self.model.geometry
        frames, rows, columns = video.shape[-3:]
        shape = (frames, rows, columns)
        av = AVSequence(
            video_tokens(targets[0], noise[0], sigma, shape=shape, first_frame=first, grid=grids.video),
            audio_tokens(targets[1], noise[1], sigma, grid=grids.audio),
            TextContext(text, text),
        )
        v_video, v_audio = model(av, sigma)
        return (
            velocity_loss(v_video, velocity(targets[0], noise[0]), av.video.clean),
            velocity_loss(v_audio, velocity(targets[1], noise[1]), av.audio.clean),
        )

    def training_step(self, batch: Batch, batch_index: int) -> None:
        """One step of both optimisers."""
        video, audio, text = batch
        dropped = torch.rand(len(text)) < self.text_dropout
        text = torch.where(dropped[:, None, None], self.null, text)
        n_tokens = video[0, 0].numel()
        sigma = sample_sigma(len(video), n_tokens)
        noise = torch.randn_like(patchify_video(video)), torch.randn_like(patchify_audio(audio))
        loss_video, loss_audio = self.losses(self.model, (video, audio, text), sigma, noise)
        optimisers = self.optimizers()
        assert isinstance(optimisers, list)
        for optimiser, peak in zip(optimisers, (0.01, 2e-3), strict=True):
            optimiser.zero_grad()
            for group in optimiser.param_groups:
                group["lr"] = peak * self._rate(batch_index)
        self.manual_backward(loss_video + loss_audio)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        self.average.update_parameters(self.model)
        self.log_dict({"video": loss_video, "audio": loss_audio}, prog_bar=True)

    def _rate(self, step: int) -> float:
        return min(1.0, (step + 1) / (0.05 * self.steps), (self.steps - step) / (0.6 * self.steps))

    @torch.no_grad()
    def held_out(self, corpus: Corpus) -> dict[str, float]:
        """Return the losses of the averaged weights on clips of unseen speakers at five noise levels."""
        torch.manual_seed(0)
        found = {}
        batch = (corpus.video, corpus.audio[:, :, :N_AUDIO], corpus.text)
        noise = torch.randn_like(patchify_video(batch[0])), torch.randn_like(patchify_audio(batch[1]))
        for level in (0.1, 0.3, 0.5, 0.7, 0.9):
            sigma = torch.full((len(batch[0]),), level)
            video, audio = self.losses(self.averaged, batch, sigma, noise)
            found[f"video@{level}"], found[f"audio@{level}"] = round(float(video), 4), round(float(audio), 4)
        return found


_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of (M, R, C) matrices towards one with a quintic Newton-Schulz iteration."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class StackedMuon(torch.optim.Optimizer):
    """Momentum with orthogonalised updates for 2-D weights.

    Args:
        params: 2-D parameters.
        lr: Step size; an update has a root mean square of about lr * 0.2.
        momentum: Nesterov momentum.
        weight_decay: Decoupled weight decay.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 0.01, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes[tuple(weight.shape)].append(weight)
            for weights in shapes.values():
                self._step_shape(weights, group)

    def _step_shape(self, weights: list[Tensor], group: dict) -> None:
        updates = []
        for weight in weights:
            velocity = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
            assert weight.grad is not None  # `step` has left out weights without a gradient
            velocity.lerp_(weight.grad, 1 - group["momentum"])
            updates.append(torch.lerp(weight.grad, velocity, group["momentum"]))
        scale = 0.2 * max(weights[0].shape) ** 0.5
        for weight, update in zip(weights, orthogonalise(torch.stack(updates)), strict=True):
            weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * scale)


if __name__ == "__main__":
    main()
