"""Pre-train the nano base from zero: `python -m idlora_pl.nano.pretrain` (what `make nano-base` runs).

Fits the codecs' projections, renders a corpus of clips (every clip another voice), trains the nano LTX-2 on joint
text-to-audio-video with and without a first frame, and writes `codecs.safetensors`, `base.safetensors` (bfloat16,
averaged weights) and the card `BASE.md`. The base never sees a voice reference: that is what ID-LoRA adds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import RichProgressBar
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.flow import sample_sigma, velocity, velocity_loss, x_sigma
from idlora_pl.method.tokens import AVSequence, TextContext, Tokens, patchify_audio, patchify_video
from idlora_pl.nano.codecs import ASSETS, AUDIO_CHANNELS, VIDEO_CHANNELS, audio_groups, fit_projection, video_groups
from idlora_pl.nano.corpus import Corpus, Item, build_corpus, split_seed
from idlora_pl.nano.muon import StackedMuon
from idlora_pl.nano.text import NanoTextEncoder
from idlora_pl.nano.world import FRAME_RATE_FPS, N_FRAMES, SAMPLE_RATE_HZ, render, script, speaker

N_AUDIO = round(N_FRAMES / FRAME_RATE_FPS / 0.04)
Batch = tuple[Tensor, Tensor, Tensor]


class BasePretraining(L.LightningModule):
    """Train all weights of the nano transformer on the flow-matching loss.

    Args:
        steps: Optimiser steps; the learning rate warms up over 5 % of them and falls linearly over the last 60 %.
        first_frame_p: Probability that a sample's first latent frame is given clean.
        text_dropout: Probability that a sample's prompt is replaced by the null text.
    """

    def __init__(self, steps: int, first_frame_p: float = 0.5, text_dropout: float = 0.1) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = LTX2.from_preset("nano")
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.995), use_buffers=False)
        self.average.requires_grad_(False)
        self.steps, self.first_frame_p, self.text_dropout = steps, first_frame_p, text_dropout
        self.register_buffer("null", NanoTextEncoder().encode([""]).video, persistent=False)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon for the matrices of the blocks, AdamW for everything else."""
        blocks = {
            name for name, weight in self.model.named_parameters() if weight.ndim == 2 and "transformer_blocks" in name
        }
        matrices = [weight for name, weight in self.model.named_parameters() if name in blocks]
        others = [weight for name, weight in self.model.named_parameters() if name not in blocks]
        return [StackedMuon(matrices, lr=0.01), torch.optim.AdamW(others, lr=2e-3, betas=(0.9, 0.98))]

    def losses(self, model: torch.nn.Module, batch: Batch, sigma: Tensor, noise: tuple[Tensor, Tensor]) -> Batch:
        """Return the video and the audio loss of a batch at given noise levels (B,) and noise tokens."""
        video, audio, text = batch
        shape = video.shape[-3:]
        targets = patchify_video(video), patchify_audio(audio)
        first = torch.rand(len(video), device=self.device) < self.first_frame_p
        clean = torch.zeros(targets[0].shape[:2], dtype=torch.bool)
        clean[:, : shape[1] * shape[2]] = first[:, None]
        clean_audio = torch.zeros(targets[1].shape[:2], dtype=torch.bool)
        grids = self.model.geometry
        av = AVSequence(
            Tokens(x_sigma(targets[0], noise[0], sigma, clean), _batched(grids.video.positions(*shape), video), clean),
            Tokens(
                x_sigma(targets[1], noise[1], sigma, clean_audio),
                _batched(grids.audio.positions(audio.shape[2]), audio),
                clean_audio,
            ),
            TextContext(text, text),
        )
        v_video, v_audio = model(av, sigma)
        return (
            velocity_loss(v_video, velocity(targets[0], noise[0]), clean),
            velocity_loss(v_audio, velocity(targets[1], noise[1]), clean_audio),
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
            video, audio = self.losses(self.average.module, batch, sigma, noise)
            found[f"video@{level}"], found[f"audio@{level}"] = round(float(video), 4), round(float(audio), 4)
        return found


def _batched(positions: Tensor, like: Tensor) -> Tensor:
    return positions.expand(len(like), -1, -1, -1)


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
    parser.add_argument("--clips", type=int, default=20000)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep-codecs", action="store_true", help="use the projections already in --output")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    L.seed_everything(options.seed)
    start = time.monotonic()
    facts: dict[str, float] = {} if options.keep_codecs else fit_codecs(options.output, 1200)
    codecs = options.output / "codecs.safetensors"
    corpus = build_corpus(_clips("base", options.clips), label="rendering the corpus", codecs=codecs)
    held_out = build_corpus(_clips("validation", 128), label="rendering held-out clips", codecs=codecs)
    data = TensorDataset(corpus.video, corpus.audio[:, :, :N_AUDIO], corpus.text)
    sampler = torch.utils.data.RandomSampler(data, num_samples=options.steps * options.batch)
    module = BasePretraining(options.steps)
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[RichProgressBar()]
    )
    trainer.fit(module, DataLoader(data, options.batch, sampler=sampler, drop_last=True))
    facts |= module.held_out(held_out) | {"seconds": round(time.monotonic() - start), "threads": os.cpu_count() or 1}
    weights = {name: weight.bfloat16().contiguous() for name, weight in module.average.module.transformer.state_dict().items()}
    recipe = {name: str(value) for name, value in vars(options).items() if name != "output"}
    save_file(weights, options.output / "base.safetensors", {"preset": "nano", "recipe": json.dumps(recipe)})
    _write_card(options.output / "BASE.md", recipe, facts)


def _clips(split: str, n_clips: int) -> list[Item]:
    """Every clip has another speaker."""
    seeds = [split_seed(split, index) for index in range(n_clips)]
    return [(seed, script(seed)) for seed in seeds]


def _write_card(path: Path, recipe: dict[str, str], facts: dict[str, float]) -> None:
    lines = ["# Nano base", "", "Generated by `python -m idlora_pl.nano.pretrain`.", "", "| setting | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in recipe.items()]
    lines += ["", "Losses are on 128 unseen speakers, averaged weights, by noise level.", "", "| fact | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
