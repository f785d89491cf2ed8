"""Small real videos: moving noise with a tone, written as mp4."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from idlora_pl.media import Clip, write_clip

PROMPT = "[VISUAL]: Noise. [SPEECH]: Hello there. [SOUNDS]: A tone."


def noise_video(
    path: Path, n_frames: int, *, seed: int = 0, frame_rate_fps: float = 25.0, loudness: float = 0.3
) -> None:
    """Write a 48x32 video of noise with a 200 Hz tone as long as the picture."""
    rng = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (n_frames, 3, 32, 48), generator=rng, dtype=torch.uint8)
    seconds = torch.arange(round(n_frames / frame_rate_fps * 16000)) / 16000
    tone = loudness * torch.sin(2 * math.pi * (200 + 10 * seed) * seconds)
    write_clip(Clip(frames, tone[None], frame_rate_fps, 16000), path, generated=False)


@pytest.fixture
def write_video() -> Callable[..., None]:
    """`noise_video`."""
    return noise_video


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Two speakers: ann with videos of 20, 19 and 5 frames, bob with one of 50."""
    folder = tmp_path / "videos"
    for name, n_frames, seed in (("ann/a", 20, 0), ("ann/b c", 19, 1), ("ann/short", 5, 2), ("bob/long", 50, 3)):
        noise_video(folder / f"{name}.mp4", n_frames, seed=seed)
    return folder


@pytest.fixture
def prompt() -> str:
    """A prompt with its three sections."""
    return PROMPT
