"""Latents of the nano world: linear, exactly invertible, with the interface of the LTX-2 codecs.

Both modalities are grouped causally as in LTX-2: latent step 0 holds the first frame alone, every later step holds
the next `temporal_stride` frames: four frames of a patch, or four steps of log-mel. A group is projected on an
orthonormal basis (principal components of the world) and scaled to unit variance; a decoded latent encodes to itself,
whatever its value. Sound is log-mel, as LTX-2's audio VAE sees it, and becomes a waveform again through Griffin-Lim.

Letters: B clips, F frames, S samples, T latent steps, K components.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import torch
import torchaudio
from safetensors.torch import load_file
from torch import Tensor, nn

from idlora_pl.method.positions import AudioGrid, Geometry, VideoGrid
from idlora_pl.nano.world import FRAME_RATE_FPS, FRAME_SIZE, N_FRAMES, SAMPLE_RATE_HZ

STRIDE = 4
PATCH = 32
HOP = 160
N_FFT = 1024
N_MELS = 64
_FLOOR = 1e-5


def group_frames(frames: Tensor) -> Tensor:
    """Group (B, 1 + 4 n, ...) causally into (B, 1 + n, 4, ...); the first frame fills its group alone."""
    first = frames[:, :1, None].expand(-1, -1, STRIDE, *frames.shape[2:])
    return torch.cat([first, frames[:, 1:].unflatten(1, (-1, STRIDE))], dim=1)


def ungroup_frames(groups: Tensor) -> Tensor:
    """Undo `group_frames`: (B, 1 + n, 4, ...) to (B, 1 + 4 n, ...), the first group averaged to one frame."""
    return torch.cat([groups[:, :1].mean(2), groups[:, 1:].flatten(1, 2)], dim=1)


def video_groups(frames: Tensor) -> Tensor:
    """Cut uint8 frames (B, F, 3, 64, 64) into patches (B, T, 2, 2, 4*3*32*32) in [-1, 1]."""
    pixels = group_frames(frames.float() / 127.5 - 1)
    patches = pixels.unflatten(-1, (-1, PATCH)).unflatten(-3, (-1, PATCH))
    return patches.permute(0, 1, 4, 6, 2, 3, 5, 7).flatten(4)


def frames_from_groups(groups: Tensor) -> Tensor:
    """Undo `video_groups`, rounding to uint8 frames (B, F, 3, H, W)."""
    patches = groups.unflatten(-1, (STRIDE, 3, PATCH, PATCH)).permute(0, 1, 4, 5, 2, 6, 3, 7)
    pixels = ungroup_frames(patches.flatten(-2).flatten(-3, -2))
    return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def audio_groups(waveform: Tensor, sample_rate_hz: int) -> Tensor:
    """Turn a waveform (B, channels, S) into groups of log-mel (B, T, 4*64); channels are averaged.

    Raises:
        ValueError: If there are fewer samples than one analysis window.
    """
    if waveform.shape[-1] < N_FFT:
        raise ValueError(
            f"waveform has {waveform.shape[-1]} samples; nano needs at least {N_FFT} (0.064 s): use a longer clip"
        )
    mono = torchaudio.functional.resample(waveform.mean(1), sample_rate_hz, SAMPLE_RATE_HZ)
    mel = log_mel_transform()(mono).clamp(min=_FLOOR).log().transpose(1, 2)
    return group_frames(mel[:, : (mel.shape[1] - 1) // STRIDE * STRIDE + 1]).flatten(2)


@functools.cache
def log_mel_transform() -> torchaudio.transforms.MelSpectrogram:
    """Return the magnitude mel transform of LTX-2's audio front end: 16 kHz, window 1024, hop 160, 64 slaney mels."""
    return torchaudio.transforms.MelSpectrogram(
        SAMPLE_RATE_HZ, N_FFT, N_FFT, HOP, 0.0, 8000.0, n_mels=N_MELS, power=1.0, norm="slaney", mel_scale="slaney"
    )


ASSETS = Path(__file__).parent / "assets"
VIDEO_CHANNELS = 32
AUDIO_CHANNELS = 64


class Projection(NamedTuple):
    """An affine map from a group of D numbers to K latents: basis (D, K) orthonormal, mean (D,), scale (K,)."""

    basis: Tensor
    mean: Tensor
    scale: Tensor


class NanoCodecs(nn.Module):
    """Clip <-> latents of the nano world, with the same methods as `idlora_pl.ltx2.codecs.Codecs`.

    Args:
        path: A safetensors file with the two projections; the one shipped with the package by default.
    """

    geometry = Geometry(VideoGrid(FRAME_RATE_FPS, STRIDE, PATCH), AudioGrid(SAMPLE_RATE_HZ, HOP, STRIDE))
    sample_rate_hz = SAMPLE_RATE_HZ
    audio_channels = 1
    frame_size = (FRAME_SIZE, FRAME_SIZE)
    n_frames = N_FRAMES

    def __init__(self, path: Path | str | None = None) -> None:
        super().__init__()
        tensors = load_file(path or ASSETS / "codecs.safetensors")
        for name in ("video", "audio"):
            basis, triangle = torch.linalg.qr(tensors[f"{name}.basis"].double())
            basis = basis * triangle.diagonal().sign()  # the sign of a QR column differs between machines
            self.register_buffer(f"{name}_basis", basis.float(), persistent=False)
            self.register_buffer(f"{name}_mean", tensors[f"{name}.mean"].float(), persistent=False)
            self.register_buffer(f"{name}_scale", tensors[f"{name}.scale"].float(), persistent=False)

    def _projection(self, name: str) -> Projection:
        return Projection(*(self.get_buffer(f"{name}_{part}") for part in ("basis", "mean", "scale")))

    def _encode(self, groups: Tensor, name: str) -> Tensor:
        part = self._projection(name)
        return (groups - part.mean) @ part.basis / part.scale

    def _decode(self, latents: Tensor, name: str) -> Tensor:
        part = self._projection(name)
        return (latents * part.scale) @ part.basis.T + part.mean

    def video_latent_shape(self, n_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Return (K, T, rows, columns) of a clip of `n_frames` frames.

        Raises:
            ValueError: If the clip does not fit the grid of four frames and 32 pixels.
        """
        if n_frames < 1 or n_frames % STRIDE != 1 or height % PATCH or width % PATCH or height < 1 or width < 1:
            raise ValueError(
                f"nano clips have 4n+1 frames and sides that are multiples of 32; got {n_frames} frames of "
                f"{height}x{width}: cut to {max(1, (n_frames - 1) // STRIDE * STRIDE + 1)} frames, e.g. of 64x64"
            )
        return VIDEO_CHANNELS, (n_frames - 1) // STRIDE + 1, height // PATCH, width // PATCH

    def n_audio_tokens(self, n_frames: int) -> int:
        """Return the number of 0.04 s latent steps that go with `n_frames` video frames."""
        return self.geometry.audio.n_tokens(n_frames / FRAME_RATE_FPS)

    def encode_video(self, frames: Tensor) -> Tensor:
        """Encode uint8 frames (B, F, 3, H, W) to latents (B, K, T, H/32, W/32)."""
        self.video_latent_shape(frames.shape[1], *frames.shape[-2:])
        return self._encode(video_groups(frames), "video").permute(0, 4, 1, 2, 3)

    def decode_video(self, latents: Tensor) -> Tensor:
        """Decode latents (B, K, T, rows, columns) to uint8 frames (B, F, 3, H, W)."""
        return frames_from_groups(self._decode(latents.permute(0, 2, 3, 4, 1), "video"))

    def encode_audio(self, waveform: Tensor, sample_rate_hz: int, *, n_tokens: int | None = None) -> Tensor:
        """Encode a waveform (B, channels, S) in [-1, 1] to latents (B, 1, T, K).

        Args:
            waveform: Sound; channels are averaged, any rate is resampled to 16 kHz.
            sample_rate_hz: Its rate.
            n_tokens: Cut to this many steps of 0.04 s; 1.32 s give 34, of which 33 lie inside the video.

        Raises:
            ValueError: If the sound is shorter than `n_tokens`.
        """
        groups = audio_groups(waveform.cpu(), sample_rate_hz).to(self.get_buffer("audio_basis").device)
        latents = self._encode(groups, "audio")[:, None]
        if n_tokens is None:
            return latents
        if latents.shape[2] < n_tokens:
            raise ValueError(
                f"sound of {waveform.shape[-1] / sample_rate_hz:.2f} s gives {latents.shape[2]} audio tokens, "
                f"{n_tokens} are needed: use at least {n_tokens * self.geometry.audio.token_seconds:.2f} s"
            )
        return latents[:, :, :n_tokens]

    def decode_log_mel(self, latents: Tensor) -> Tensor:
        """Decode latents (B, 1, T, K) to log-mel (B, 1 + 4 (T - 1), 64)."""
        return ungroup_frames(self._decode(latents[:, 0], "audio").unflatten(-1, (STRIDE, N_MELS)))

    def decode_audio(self, latents: Tensor) -> Tensor:
        """Decode latents (B, 1, T, K) to a waveform (B, 1, T * 640) at 16 kHz through Griffin-Lim."""
        n_samples = round(latents.shape[2] * self.geometry.audio.token_seconds * SAMPLE_RATE_HZ)
        n_steps = n_samples // HOP + 1
        log_mel = self.decode_log_mel(latents).cpu().clamp(max=3.0)
        tail = log_mel[:, -1:].expand(-1, n_steps - log_mel.shape[1], -1)
        log_mel = torch.cat([log_mel, tail], dim=1)
        magnitude = self._invert_mel(log_mel.exp().transpose(1, 2))
        sound = griffin_lim()(magnitude)[:, :n_samples]
        return torch.nn.functional.pad(sound, (0, n_samples - sound.shape[1]))[:, None].clamp(-1, 1)

    def _invert_mel(self, mel: Tensor) -> Tensor:
        """Find a non-negative spectrum (B, 513, T) whose mel bands are (B, 64, T): multiplicative updates."""
        bank = log_mel_transform().mel_scale.fb.T
        spectrum = (torch.linalg.pinv(bank) @ mel).clamp(min=1e-6)
        for _ in range(8):
            spectrum = spectrum * (bank.T @ mel) / (bank.T @ (bank @ spectrum)).clamp(min=1e-8)
        return spectrum


@functools.cache
def griffin_lim() -> torchaudio.transforms.GriffinLim:
    """Return what turns a magnitude spectrum into sound; like the mel transform, it stays on the CPU."""
    return torchaudio.transforms.GriffinLim(N_FFT, 32, N_FFT, HOP, power=1.0, rand_init=False)


def fit_projection(groups: Tensor, channels: int) -> dict[str, Tensor]:
    """Fit the leading principal components of groups (N, D): basis (D, K), mean (D,), scale (K,)."""
    mean = groups.mean(0)
    _, values, basis = torch.svd_lowrank(groups - mean, q=channels + 32, niter=3)
    scale = values[:channels] / (groups.shape[0] - 1) ** 0.5
    return {"basis": basis[:, :channels].half().contiguous(), "mean": mean.half(), "scale": scale}
