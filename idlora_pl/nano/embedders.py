"""Measuring instruments of the nano world: who speaks, what, where, and whether lips and sound agree.

Small networks on the log-mel of any waveform and on faces at 25 fps; that of lip-sync has two streams in the manner of
SyncNet. They satisfy the Protocols of ``idlora_pl/metrics/embedders.py`` and are trained by
``idlora_pl/nano/pretraining/instruments.py``.

Letters: B clips, S samples, T mel steps of 10 ms, F frames at 25 fps.
"""

from itertools import groupby
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.nano.codecs import ASSETS
from idlora_pl.nano.features import N_MELS, LogMel, mouths_25fps, picture_layer, pooled_statistics, time_layer
from idlora_pl.nano.world import ENVIRONMENTS, VOWELS


class NanoSpeakerEmbedder(nn.Module):
    """A voice as a vector of 64 numbers: convolutions and attentive statistics pooling."""

    def __init__(self, width: int = 96, size: int = 64) -> None:
        super().__init__()
        self.front = LogMel()
        self.stem = time_layer(N_MELS, width, 5, stride=2)
        self.blocks = nn.ModuleList(time_layer(width, width, 3, dilation=d) for d in (1, 2, 4))
        self.attention = nn.Sequential(nn.Conv1d(width, 32, 1), nn.Tanh(), nn.Conv1d(32, width, 1), nn.Softmax(-1))
        self.head = nn.Sequential(nn.BatchNorm1d(2 * width), nn.Linear(2 * width, size))

    def forward(self, mel: Tensor) -> Tensor:
        """Map log-mels (B, 64, T) to embeddings (B, 64)."""
        steps = self.stem(mel)
        for block in self.blocks:
            steps = steps + block(steps)
        return self.head(pooled_statistics(steps, self.attention(steps)))

    @torch.no_grad()
    def embed(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
        """Embed waveforms (B, S) in [-1, 1]; returns (B, 64)."""
        return self(self.front(waveform, sample_rate_hz))


class NanoTranscriber(nn.Module):
    """Vowels from log-mels: a class per 10 ms, then runs that are long enough to be words."""

    min_steps = 5
    """Runs below 0.05 s are no words; the shortest word lasts above 0.1 s."""
    max_gap_steps = 2
    """Runs of one vowel that are at most 0.02 s apart are one word."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.front = LogMel()
        self.stem = time_layer(N_MELS, width, 5)
        self.blocks = nn.ModuleList(time_layer(width, width, 3, dilation=d) for d in (1, 2, 4))
        self.head = nn.Conv1d(width, len(VOWELS) + 1, 1)

    def forward(self, mel: Tensor) -> Tensor:
        """Map log-mels (B, 64, T) to logits (B, 7, T); the last class is silence."""
        steps = self.stem(mel)
        for block in self.blocks:
            steps = steps + block(steps)
        return self.head(steps)

    def words(self, classes: list[int]) -> str:
        """Read words from the class of each 10 ms."""
        names, spoken, position = list(VOWELS), list[tuple[int, int, int]](), 0
        for vowel, run in groupby(classes):
            length = len(list(run))
            start, position = position, position + length
            if vowel >= len(names) or length < self.min_steps:
                continue
            if spoken and spoken[-1][0] == vowel and start - spoken[-1][2] <= self.max_gap_steps:
                spoken[-1] = (vowel, spoken[-1][1], position)
            else:
                spoken.append((vowel, start, position))
        return " ".join(names[vowel] for vowel, _, _ in spoken)

    @torch.no_grad()
    def transcribe(self, waveform: Tensor, sample_rate_hz: int, *, language: str = "en") -> list[str]:
        """Transcribe waveforms (B, S) in [-1, 1]; returns vowel names separated by spaces, whatever the language."""
        classes = self(self.front(waveform, sample_rate_hz)).argmax(1)
        return [self.words(row) for row in classes.tolist()]


class NanoEnvironment(nn.Module):
    """The place that is heard: convolutions and statistics pooling."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.front = LogMel()
        self.steps = nn.Sequential(time_layer(N_MELS, width, 5), time_layer(width, width, 5, stride=2))
        self.head = nn.Linear(2 * width, len(ENVIRONMENTS))

    def forward(self, mel: Tensor) -> Tensor:
        """Map log-mels (B, 64, T) to logits (B, 5)."""
        steps = self.steps(mel)
        return self.head(pooled_statistics(steps, torch.full_like(steps, 1 / steps.shape[-1])))

    @torch.no_grad()
    def classify(self, waveform: Tensor, sample_rate_hz: int) -> list[str]:
        """Classify waveforms (B, S) in [-1, 1]; returns names of ``ENVIRONMENTS``."""
        logits = self(self.front(waveform, sample_rate_hz))
        return [ENVIRONMENTS[index] for index in logits.argmax(1).tolist()]


class Instruments(nn.Module):
    """The four instruments of the nano world."""

    def __init__(self) -> None:
        super().__init__()
        self.speaker = NanoSpeakerEmbedder()
        self.lip_sync = NanoLipSync()
        self.transcriber = NanoTranscriber()
        self.environment = NanoEnvironment()

    def weights(self) -> dict[str, Tensor]:
        """Return the trained tensors by name; the mel filters are computed and not stored."""
        return {name: value for name, value in self.state_dict().items() if ".front." not in name}


def load_instruments(path: Path | str | None = None) -> Instruments:
    """Load trained instruments, ready to measure.

    Args:
        path: A file that ``python -m idlora_pl.nano.pretraining.instruments`` wrote; the one of the package by default.

    Raises:
        ValueError: The file does not exist, or does not hold these four networks.
    """
    path = Path(path) if path is not None else ASSETS / "instruments.safetensors"
    remake = f"make it with `python -m idlora_pl.nano.pretraining.instruments --output {path.parent}`"
    if not path.is_file():
        raise ValueError(f"{path} does not exist; {remake}")
    instruments = Instruments()
    found, expected = load_file(path), instruments.weights()
    wrong = [
        name
        for name in sorted(expected.keys() | found.keys())
        if name not in found or name not in expected or found[name].shape != expected[name].shape
    ]
    if wrong:
        raise ValueError(f"{path}: {len(wrong)} tensors do not fit the networks, first {wrong[0]}; {remake}")
    instruments.load_state_dict(found, strict=False)
    return instruments.eval().requires_grad_(False)


MEL_STEPS_PER_FRAME = 4
EDGE_FRAMES = 2
"""Lip-sync windows are five frames wide, so two embeddings fall away at each end of a clip."""


class NanoLipSync(nn.Module):
    """Sound and mouth as unit vectors of 32 numbers per frame; those of one moment point the same way."""

    def __init__(self, width: int = 48, size: int = 32) -> None:
        super().__init__()
        self.front = LogMel()
        self.audio = nn.Sequential(
            time_layer(N_MELS, width, 5),
            time_layer(width, width, 5, stride=2),
            time_layer(width, width, 5, stride=2),
            nn.Conv1d(width, size, 1),
        )
        self.picture = nn.Sequential(
            nn.AvgPool2d(2),
            picture_layer(3, 16, stride=1),
            picture_layer(16, 24),
            picture_layer(24, 32),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, width),
        )
        self.video = nn.Sequential(time_layer(width, width, 5), nn.Conv1d(width, size, 1))

    def forward(self, mel: Tensor, mouths: Tensor) -> tuple[Tensor, Tensor]:
        """Embed sound and mouth.

        Args:
            mel: (B, 64, T) log-mels, 4 steps a frame.
            mouths: (B, F, 3, 28, 32) uint8 lower faces.

        Returns:
            Unit vectors of audio and video, both (B, F - 4, 32): one for each window of five frames.
        """
        n_clips, n_frames = mouths.shape[:2]
        sound = self.audio(mel)
        pictures = self.picture(mouths.flatten(0, 1).float() / 127.5 - 1)
        motion = self.video(pictures.unflatten(0, (n_clips, n_frames)).transpose(1, 2))
        whole = slice(EDGE_FRAMES, min(sound.shape[-1], n_frames) - EDGE_FRAMES)
        audio, video = sound[..., whole].transpose(1, 2), motion[..., whole].transpose(1, 2)
        return F.normalize(audio, dim=-1), F.normalize(video, dim=-1)

    @torch.no_grad()
    def embed(
        self, waveform: Tensor, sample_rate_hz: int, frames: Tensor, frame_rate_fps: float
    ) -> tuple[Tensor, Tensor]:
        """Embed one clip, waveform (S,) in [-1, 1] and frames uint8 (F, 3, H, W) of a centred face.

        Returns:
            Unit vectors of audio and video, both (T, 32), 25 a second.

        Raises:
            Unscorable: ``too_short`` with fewer than five frames at 25 fps of sound or picture.
        """
        mel = self.front(waveform[None], sample_rate_hz)
        mouths = mouths_25fps(frames, frame_rate_fps)
        if min(len(mouths), mel.shape[-1] // MEL_STEPS_PER_FRAME) <= 2 * EDGE_FRAMES:
            raise Unscorable("too_short")
        audio, video = self(mel, mouths[None].to(mel.device))
        return audio[0], video[0]
