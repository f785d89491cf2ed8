"""From speakers and scripts to sound, picture and the truth about both.

Letters: B clips, F frames, S samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from idlora_pl.nano.face import draw
from idlora_pl.nano.voice import speak
from idlora_pl.nano.world import (
    ENVIRONMENTS,
    FRAME_RATE_FPS,
    FRAME_SIZE,
    MOUTH_WIDTHS,
    N_FRAMES,
    N_SAMPLES,
    Script,
    Speaker,
    loudness,
    word_indices,
)


@dataclass(frozen=True)
class RenderedClips:
    """A batch of clips with the truth about them.

    Attributes:
        waveform: (B, 21120) float32 in [-1, 1], 16 kHz.
        frames: (B, 33, 3, 64, 64) uint8, or (B, 0, 3, 64, 64) when rendered without video.
        phones: (B, 133) int64: index into `VOWELS` per 10 ms, -1 between words.
        mouth: (B, 33) float32: how far the mouth is open, 0 to 1, per video frame.
        environments: (B,) int64: index into `ENVIRONMENTS`.
    """

    waveform: Tensor
    frames: Tensor
    phones: Tensor
    mouth: Tensor
    environments: Tensor


def render(speakers: Sequence[Speaker], scripts: Sequence[Script], *, video: bool = True) -> RenderedClips:
    """Render B clips, clip i being speaker i reading script i.

    Args:
        speakers: B speakers.
        scripts: B scripts.
        video: Whether to draw the frames (most of the time goes there).

    Raises:
        ValueError: If there are not as many scripts as speakers.
    """
    if len(speakers) != len(scripts):
        raise ValueError(f"render needs one script a speaker; got {len(speakers)} speakers, {len(scripts)} scripts")
    frame_times = torch.arange(N_FRAMES) / FRAME_RATE_FPS
    level, weights, _ = loudness(scripts, frame_times)
    mouth = level.pow(0.7)
    widths = torch.tensor(list(MOUTH_WIDTHS.values()))[word_indices(scripts)]
    frames = torch.zeros(len(speakers), 0, 3, FRAME_SIZE, FRAME_SIZE, dtype=torch.uint8)
    if video:
        frames = draw(speakers, mouth, (weights * widths[:, None, :]).sum(-1))
    _, _, spoken = loudness(scripts, torch.arange(N_SAMPLES // 160 + 1) * 0.01)
    phones = torch.where(spoken < 0, spoken, word_indices(scripts).gather(1, spoken.clamp(min=0)))
    places = torch.tensor([ENVIRONMENTS.index(item.environment) for item in scripts])
    return RenderedClips(speak(speakers, scripts), frames, phones, mouth, places)
