"""Latents of many nano clips, rendered and encoded on all cores; the corpus of a seed is always the same."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from idlora_pl.nano.codecs import NanoCodecs
from idlora_pl.nano.render import render
from idlora_pl.nano.text import NanoTextEncoder
from idlora_pl.nano.world import SAMPLE_RATE_HZ, Script, Speaker, speaker

Item = tuple[int, Script]
"""Seed of the speaker, and what is said."""

SPEAKERS_PER_SPLIT = 1_000_000
SPLITS = ("base", "train", "validation", "test", "instruments", "instruments_test")


@dataclass(frozen=True)
class Corpus:
    """Encoded clips.

    Attributes:
        video: (N, 32, 9, 2, 2) float32 latents.
        audio: (N, 1, 34, 64) float32 latents; 33 of them lie inside the video.
        text: (N, 8, 32) float32 text features.
    """

    video: Tensor
    audio: Tensor
    text: Tensor


def split_seed(split: str, index: int) -> int:
    """Return the seed of the `index`-th speaker of a split; splits never share a speaker.

    Raises:
        ValueError: If the split has no such name or the index is out of its range.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}; got '{split}'")
    if not 0 <= index < SPEAKERS_PER_SPLIT:
        raise ValueError(f"speaker index must be in [0, {SPEAKERS_PER_SPLIT}); got {index}")
    return SPLITS.index(split) * SPEAKERS_PER_SPLIT + index


def encode_clips(speakers: Sequence[Speaker], scripts: Sequence[Script], codecs: NanoCodecs) -> Corpus:
    """Render and encode clips (speaker i reads script i)."""
    clips = render(speakers, scripts)
    audio = codecs.encode_audio(clips.waveform[:, None], SAMPLE_RATE_HZ)
    text = NanoTextEncoder().encode([item.prompt for item in scripts]).video
    return Corpus(codecs.encode_video(clips.frames), audio, text)


def _encode_chunk(codecs: Path | None, items: Sequence[Item]) -> tuple[Tensor, Tensor, Tensor]:
    torch.set_num_threads(1)
    people = [speaker(who) for who, _ in items]
    part = encode_clips(people, [what for _, what in items], NanoCodecs(codecs))
    return part.video, part.audio, part.text


def build_corpus(
    items: Sequence[Item], *, label: str = "rendering", codecs: Path | None = None, chunk: int = 32
) -> Corpus:
    """Render and encode clips given as (speaker seed, script), on all cores, with a progress bar.

    Args:
        items: N pairs of speaker seed and script.
        label: What the progress bar says.
        codecs: File of the projections; the shipped one by default.
        chunk: Clips a task.
    """
    chunks = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    parts = list(track(_map(functools.partial(_encode_chunk, codecs), chunks), description=label, total=len(chunks)))
    return Corpus(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _map(
    encode: Callable[[Sequence[Item]], tuple[Tensor, Tensor, Tensor]],
    chunks: Sequence[Sequence[Item]],
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    workers = min(len(chunks), os.cpu_count() or 1)
    if workers <= 1:
        yield from map(encode, chunks)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for video, audio, text in pool.map(encode, chunks):
            # copy out of shared memory at once: thousands of open segments would exhaust file descriptors
            yield video.clone(), audio.clone(), text.clone()
