"""Draw one sample: frames and sound where its codecs are there, its latents where they are not."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import torch
from torch import Tensor
from torchaudio.transforms import MelSpectrogram

from idlora_pl.data.samples import PairSample
from idlora_pl.files import replacing

if TYPE_CHECKING:
    from idlora_pl.components import ClipCodecs

_N_MELS = 64


def draw(sample: PairSample, path: Path, codecs: ClipCodecs | None = None) -> None:
    """Draw one sample as png.

    Args:
        sample: what to draw.
        path: where to write.
        codecs: those that made its latents, to show first, middle and last frame and mels of target and reference.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(9, 10), layout="constrained")
    if codecs is None:
        _draw_latents(figure, sample)
    else:
        _draw_decoded(figure, sample, codecs)
    figure.suptitle(_caption(sample), fontsize=8, ha="left", x=0.02)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
    pyplot.close(figure)


def _caption(sample: PairSample) -> str:
    """Say what the picture shows: pair, lengths, text."""
    meta = sample.meta
    pair = f"{sample.key}: speaker {meta.get('speaker') or '-'}, consent {meta.get('consent') or '-'}, "
    pair += f"target {meta.get('target_key', '-')}, reference {meta.get('reference_key', '-')}"
    lengths = f"{sample.target_video.shape[1]} latent frames of {sample.target_video.shape[2]}x"
    lengths += f"{sample.target_video.shape[3]}, {sample.target_audio.shape[1]} audio tokens, "
    lengths += f"{sample.reference.shape[1]} reference tokens, {int(sample.text.mask.sum())} text tokens"
    prompt = textwrap.fill(str(meta.get("prompt", "-")), 130, max_lines=6)
    # $ would start a formula
    return f"{pair}\n{lengths}\n{prompt}".replace("$", r"\$")


def _draw_latents(figure: Any, sample: PairSample) -> None:
    maps = {
        "target_video (mean over rows and columns)": sample.target_video.float().mean((2, 3)),
        "target_audio": sample.target_audio.float().transpose(1, 2).flatten(0, 1),
        "reference": sample.reference.float().transpose(1, 2).flatten(0, 1),
    }
    for axis, (title, values) in zip(figure.subplots(len(maps), 1), maps.items(), strict=True):
        picture = axis.imshow(values, aspect="auto", interpolation="nearest", cmap="RdBu", vmin=-3, vmax=3)
        axis.set(title=title, xlabel="latent time step", ylabel="channel")
        figure.colorbar(picture, ax=axis)


def _draw_decoded(figure: Any, sample: PairSample, codecs: ClipCodecs) -> None:
    frames = codecs.decode_video(sample.target_video[None].float())[0].cpu()
    grid = figure.add_gridspec(3, 3, height_ratios=(2, 1, 1))
    for column, (title, k) in enumerate({"first": 0, "middle": len(frames) // 2, "last": len(frames) - 1}.items()):
        axis = figure.add_subplot(grid[0, column])
        axis.imshow(frames[k].permute(1, 2, 0).numpy())
        axis.set(title=f"{title} frame ({k})", xticks=[], yticks=[])
    for row, (title, latents) in enumerate({"target": sample.target_audio, "reference": sample.reference}.items(), 1):
        sound = codecs.decode_audio(latents[None].float())[0].float().cpu().mean(0)
        axis = figure.add_subplot(grid[row, :])
        seconds = len(sound) / codecs.sample_rate_hz
        mel = log_mel(sound, codecs.sample_rate_hz)
        axis.imshow(mel, aspect="auto", origin="lower", extent=(0, seconds, 0, _N_MELS))
        axis.set(title=f"{title} sound", xlabel="seconds", ylabel="mel band")


def log_mel(sound: Tensor, sample_rate_hz: int) -> Tensor:
    """Return the log-mel (bands, steps of 10 ms) of a waveform (S,), in decibels."""
    transform = MelSpectrogram(sample_rate_hz, 1024, hop_length=sample_rate_hz // 100, n_mels=_N_MELS)
    return 10 * torch.log10(transform(torch.nan_to_num(sound)).clamp(min=1e-10))
