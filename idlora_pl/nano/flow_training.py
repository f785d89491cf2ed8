"""Pre-training of the nano base as a LightningModule: joint text-to-audio-video by flow matching, from zero."""

from __future__ import annotations

import lightning as L
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.flow import sample_sigma, velocity, velocity_loss
from idlora_pl.method.tokens import AVSequence, TextContext, audio_tokens, patchify_audio, patchify_video, video_tokens
from idlora_pl.nano.corpus import Corpus
from idlora_pl.nano.muon import StackedMuon
from idlora_pl.nano.text import NanoTextEncoder
from idlora_pl.nano.world import FRAME_RATE_FPS, N_FRAMES

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
