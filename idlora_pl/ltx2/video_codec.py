"""Frames <-> video latents of LTX-2, with the reference's pixel scaling and per-channel normalisation.

Frames that are too large to encode or decode at once are cut into tiles.
Letters: B clips, F frames, H W pixels, C channels, F' H' W' the latent grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.models.autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video
from torch import Tensor, nn

from idlora_pl.method.positions import VideoGrid

# The decoder pads by reflection, which needs two latents a side.
_MIN_SIDE_PX = 64


class VideoCodec(nn.Module):
    """The video VAE with its scaling; posterior means, nothing is sampled.

    Args:
        vae: The diffusers VAE, with or without weights of a release.
        frame_rate_fps: Frame rate of the clips.
    """

    def __init__(self, vae: AutoencoderKLLTX2Video, *, frame_rate_fps: float = 25.0) -> None:
        super().__init__()
        if vae.config["timestep_conditioning"]:
            raise ValueError("vae: timestep_conditioning=True is not supported; use a VAE without it")
        self.vae = vae
        self.grid = VideoGrid(frame_rate_fps, vae.temporal_compression_ratio, vae.spatial_compression_ratio)
        self.tiling: Tiling | None = None

    def check_shape(self, n_frames: int, height: int, width: int) -> None:
        """Check that a clip of `n_frames` frames of `height` x `width` pixels fits the latent grid.

        Raises:
            ValueError: If not; the nearest sizes that do are named.
        """
        stride, side = self.grid.temporal_stride, self.grid.spatial_stride
        fits = n_frames > 0 and n_frames % stride == 1
        if fits and all(n >= _MIN_SIDE_PX and n % side == 0 for n in (height, width)):
            return
        below = max(0, n_frames - 1) // stride * stride + 1
        counts = str(n_frames) if fits else f"{below} or {below + stride}"
        size = "x".join(str(max(_MIN_SIDE_PX, side * round(n / side))) for n in (height, width))
        raise ValueError(
            f"LTX-2 needs {stride}k+1 frames and sides that are multiples of {side}, at least "
            f"{_MIN_SIDE_PX}; got {n_frames} frames of {height}x{width}: cut and resize the clip to "
            f"{counts} frames of {size}"
        )

    def latent_shape(self, n_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Return (C, F', H', W') of a clip, after `check_shape`."""
        self.check_shape(n_frames, height, width)
        stride, side = self.grid.temporal_stride, self.grid.spatial_stride
        return self.vae.config["latent_channels"], (n_frames - 1) // stride + 1, height // side, width // side

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Encode uint8 frames (B, F, 3, H, W) to float32 latents (B, C, F', H', W') of about unit variance.

        Raises:
            ValueError: If the frames are not uint8 RGB, or their number or size does not fit.
        """
        if frames.ndim != 5 or frames.shape[2] != 3 or frames.dtype != torch.uint8:
            raise ValueError(f"frames must be uint8 (B, F, 3, H, W); got {frames.dtype} {tuple(frames.shape)}")
        height, width = frames.shape[-2:]
        self.check_shape(frames.shape[1], height, width)
        pixels = (frames.transpose(1, 2).to(self.vae.device).float() / 255 - 0.5) / 0.5
        self._tile(height, width)
        mean = self.vae.encode(pixels.to(self.vae.dtype)).latent_dist.mean
        return (mean.float() - self._statistic("latents_mean")) / self._statistic("latents_std")

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, F', H', W') to uint8 frames (B, F, 3, H, W), rounded to the nearest value."""
        latents = latents.to(self.vae.device).float()
        latents = latents * self._statistic("latents_std") + self._statistic("latents_mean")
        height, width = (n * self.grid.spatial_stride for n in latents.shape[-2:])
        self._tile(height, width)
        pixels = self.vae.decode(latents.to(self.vae.dtype)).sample.float()
        return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).transpose(1, 2)

    def _statistic(self, name: str) -> Tensor:
        """Return a per-channel statistic as (1, C, 1, 1, 1)."""
        return self.vae.get_buffer(name).float()[None, :, None, None, None]

    def _tile(self, height: int, width: int) -> None:
        if self.tiling is None:
            self.vae.disable_tiling()
        else:
            self.tiling.prepare(self.vae, height, width)


@dataclass(frozen=True)
class Tiling:
    """How the video VAE cuts large frames; neighbouring tiles are blended where they overlap.

    Time is never cut: diffusers' groups of frames (`use_framewise_decoding`) come out one frame late.

    Attributes:
        tile_px: Side of a square tile in pixels, a multiple of 32, at least 256.
        overlap_px: Pixels shared by two neighbours, a multiple of 32, at most half a tile.
    """

    tile_px: int = 512
    overlap_px: int = 64

    def __post_init__(self) -> None:
        """Refuse tiles that do not fit the latent grid."""
        if self.tile_px < 256 or self.tile_px % 32:
            raise ValueError(f"tile_px must be a multiple of 32 and at least 256; got {self.tile_px}")
        if self.overlap_px % 32 or not 0 <= self.overlap_px <= self.tile_px // 2:
            raise ValueError(f"overlap_px must be a multiple of 32 in 0..{self.tile_px // 2}; got {self.overlap_px}")

    def prepare(self, vae: AutoencoderKLLTX2Video, height: int, width: int) -> None:
        """Set the tiles of `vae` for frames of `height` x `width` pixels."""
        tile_height, stride_height = self.tile_and_stride(height)
        tile_width, stride_width = self.tile_and_stride(width)
        vae.enable_tiling(tile_height, tile_width, None, stride_height, stride_width, None)

    def tile_and_stride(self, side_px: int) -> tuple[int, int]:
        """Return the tile and the step between tiles, in pixels, for one side of a frame.

        The step is moved off values that leave a last tile of a single latent, which the decoder's reflect
        padding cannot handle (928 pixels with the default tiles would).
        """
        if side_px <= self.tile_px:
            return side_px, side_px
        last, tile, wanted = side_px // 32 - 1, self.tile_px // 32, (self.tile_px - self.overlap_px) // 32
        steps = [*range(wanted, 1, -1), *range(wanted + 1, tile)]
        return self.tile_px, 32 * next((step for step in steps if last % step), wanted)
