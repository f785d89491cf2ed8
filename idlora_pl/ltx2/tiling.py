"""Tiles for frames that are too large to encode or decode at once."""

from __future__ import annotations

from dataclasses import dataclass

from diffusers.models.autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video


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
