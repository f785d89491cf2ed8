"""SyncNet: sound and mouth as vectors of one space.

Chung & Zisserman 2016, "Out of time: automated lip sync in the wild"; layers, key names and use of the published
`syncnet_v2.model` (joonson/syncnet_python). Letters: T steps of 40 ms, F frames at 25 fps, A steps of 10 ms, N windows.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from idlora_pl.metrics.face_track import CROP_SIZE, frames_at_rate
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.scorers.lips.mfcc import HOP, SAMPLE_RATE_HZ, as_16_bit, mfcc

FRAME_RATE_FPS = 25.0
SIZE = 1024
WINDOW_FRAMES = 5
"""Frames that one step sees."""
WINDOW_CEPSTRA = 20
"""Steps of 10 ms that one step hears."""
_SAMPLES_PER_FRAME = round(SAMPLE_RATE_HZ / FRAME_RATE_FPS)
_CEPSTRA_PER_FRAME = _SAMPLES_PER_FRAME // HOP
_CHUNK = 8

# Channels, kernel, stride and padding of each convolution; then kernel, stride and padding of the pool after it.
Layer = tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]
Pool = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None
_SOUND: tuple[tuple[Layer, Pool], ...] = (
    ((64, (3, 3), (1, 1), (1, 1)), ((1, 1), (1, 1), (0, 0))),
    ((192, (3, 3), (1, 1), (1, 1)), ((3, 3), (1, 2), (0, 0))),
    ((384, (3, 3), (1, 1), (1, 1)), None),
    ((256, (3, 3), (1, 1), (1, 1)), None),
    ((256, (3, 3), (1, 1), (1, 1)), ((3, 3), (2, 2), (0, 0))),
    ((512, (5, 4), (1, 1), (0, 0)), None),
)
_MOUTH: tuple[tuple[Layer, Pool], ...] = (
    ((96, (5, 7, 7), (1, 2, 2), (0, 0, 0)), ((1, 3, 3), (1, 2, 2), (0, 0, 0))),
    ((256, (1, 5, 5), (1, 2, 2), (0, 1, 1)), ((1, 3, 3), (1, 2, 2), (0, 1, 1))),
    ((256, (1, 3, 3), (1, 1, 1), (0, 1, 1)), None),
    ((256, (1, 3, 3), (1, 1, 1), (0, 1, 1)), None),
    ((256, (1, 3, 3), (1, 1, 1), (0, 1, 1)), ((1, 3, 3), (1, 2, 2), (0, 0, 0))),
    ((512, (1, 6, 6), (1, 1, 1), (0, 0, 0)), None),
)


class SyncNet(nn.Module):
    """The two streams; a `LipSyncEmbedder` on crops of the face."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = _stream(1, _SOUND, nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d)
        self.netfcaud = _head()
        self.netfclip = _head()
        self.netcnnlip = _stream(3, _MOUTH, nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d)

    def hear(self, windows: Tensor) -> Tensor:
        """Map cepstra (N, 1, 13, 20) to (N, 1024)."""
        return self.netfcaud(self.netcnnaud(windows).flatten(1))

    def see(self, crops: Tensor) -> Tensor:
        """Map F frames (1, 3, F, 224, 224), blue first, 0..255, to (F - 4, 1024), a vector for every five frames."""
        return self.netfclip(self.netcnnlip(crops)[0, :, :, 0, 0].T)

    @torch.no_grad()
    def embed(
        self, waveform: Tensor, sample_rate_hz: int, frames: Tensor, frame_rate_fps: float
    ) -> tuple[Tensor, Tensor]:
        """Embed a clip of one face, at the first of the five frames that each step sees.

        As the published tool does, the last frame of the shorter of sound and picture is left out, so there are
        F - 5 steps.

        Args:
            waveform: (S,) in [-1, 1].
            sample_rate_hz: Of the waveform; it is resampled to 16 kHz.
            frames: uint8 (F, 3, 224, 224) crops of `face_crops`, red first.
            frame_rate_fps: Of the frames; they are repeated or left out to be 25 per second.

        Returns:
            Sound (T, 1024) and mouth (T, 1024).

        Raises:
            ValueError: The crops have another size.
            Unscorable: `too_short` below six frames at 25 fps.
        """
        if frames.shape[1:] != (3, CROP_SIZE, CROP_SIZE):
            raise ValueError(f"frames must be (F, 3, 224, 224) crops of a face; got {tuple(frames.shape)}")
        device = next(self.parameters()).device
        samples = as_16_bit(waveform, sample_rate_hz)
        shown = frames_at_rate(len(frames), frame_rate_fps, FRAME_RATE_FPS)
        steps = min(len(shown), len(samples) // _SAMPLES_PER_FRAME) - WINDOW_FRAMES
        if steps < 1:
            raise Unscorable("too_short")
        windows = mfcc(samples).unfold(0, WINDOW_CEPSTRA, _CEPSTRA_PER_FRAME)[:steps, None].float().to(device)
        seen = []
        for start in range(0, steps, _CHUNK):
            last = min(start + _CHUNK, steps) + WINDOW_FRAMES - 1
            crops = frames[shown[start:last]].to(device).flip(1).float()
            seen.append(self.see(crops.transpose(0, 1)[None]))
        return self.hear(windows), torch.cat(seen)


def _stream(
    channels: int,
    layers: tuple[tuple[Layer, Pool], ...],
    conv: Callable[..., nn.Module],
    norm: Callable[..., nn.Module],
    pool: Callable[..., nn.Module],
) -> nn.Sequential:
    """Convolution, norm and ReLU after each other, with pools between; the positions are the published key names."""
    modules: list[nn.Module] = []
    for (width, kernel, stride, padding), after in layers:
        modules += [conv(channels, width, kernel, stride, padding), norm(width), nn.ReLU(inplace=True)]
        if after is not None:
            modules.append(pool(*after))
        channels = width
    return nn.Sequential(*modules)


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, SIZE))


def load_syncnet(path: Path) -> SyncNet:
    """Load the published file, ready to embed.

    Counters of batches are not needed and may be missing, as in files that old versions of PyTorch wrote.

    Raises:
        ValueError: The file does not hold the tensors of SyncNet.
    """
    network = SyncNet()
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    counters = {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    try:
        network.load_state_dict(counters | tensors)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{path} does not fit SyncNet: {error}") from error
    return network.eval().requires_grad_(False)
