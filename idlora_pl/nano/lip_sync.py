"""The lip-sync instrument of the nano world, a small two-stream network in the manner of SyncNet.

Letters: B clips, S samples, T mel steps of 10 ms, F frames at 25 fps.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from idlora_pl.metrics.clip_mean import Unscorable
from idlora_pl.nano.features import N_MELS, LogMel, mouths_25fps, picture_layer, time_layer

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
