"""What a decoded frame looks like on a screen: upright, HDR and wide colours as BT.709, transparent parts on white.

Letters: H W pixels.
"""

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, Interpolation, VideoReformatter

from idlora_pl.media.clip import MediaError
from idlora_pl.media.orientation import Orientation, orientation_of

BACKGROUND = 255
"""Level of the white on which transparent pixels are shown, as pages and viewers do."""
_SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
_WIDE = (ColorPrimaries.BT2020, ColorPrimaries.SMPTE431, ColorPrimaries.SMPTE432)
_UNCONVERTIBLE = {14: "ICtCp", 15: "IPT-PQ-C2 (Dolby Vision profile 5)"}
"""Matrices of FFmpeg's AVColorSpace that its scaler does not take."""


class Screen:
    """Turns frames of one file into what is seen.

    FFmpeg prepares a conversion once, which takes seconds for HDR, and uses it for all frames of one kind.

    Args:
        name: of the file, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._narrowing, self._blending, self._scaling = VideoReformatter(), VideoReformatter(), VideoReformatter()
        self._turned: tuple[object, Orientation] | None = None

    def orientation(self, frame: VideoFrame) -> Orientation:
        """Return how a frame is turned; it is read anew where rotation or size change.

        PyAV keeps a frame whose side data was looked at until Python collects its cycles.

        Raises:
            MediaError: The picture is turned by something else than quarter turns, or sheared.
        """
        kind = frame.rotation, frame.width, frame.height
        if self._turned is None or self._turned[0] != kind:
            self._turned = kind, orientation_of(frame, self.name)
        return self._turned[1]

    def seen(self, frame: VideoFrame) -> VideoFrame:
        """Return a frame without transparency and in BT.709's range of colours; others stay as they are.

        Diffuse white of HDR (203 cd/m2, BT.2408) becomes white, and what is brighter is cut.

        Raises:
            MediaError: The colours are of a kind that FFmpeg cannot convert.
        """
        if frame.colorspace in _UNCONVERTIBLE:
            kind = _UNCONVERTIBLE[frame.colorspace]
            raise MediaError(f"{self.name} has colours in {kind}, which cannot be converted; encode it again as BT.709")
        if is_transparent(frame):
            frame = self._blended(frame)
        if frame.color_trc in _HDR or frame.color_primaries in _WIDE:
            frame = self._narrowing.reformat(
                frame,
                format="rgb24",
                dst_colorspace=Colorspace.ITU709,
                dst_color_trc=ColorTrc.BT709,
                dst_color_primaries=ColorPrimaries.BT709,
                interpolation=Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT,
            )
        return frame

    def rgb(self, frame: VideoFrame, width: int, height: int) -> np.ndarray:
        """Return a frame as it is seen (see `seen`), as uint8 (height, width, 3); it is not turned."""
        seen = self.seen(frame)
        pixels = self._scaling.reformat(seen, width, height, "rgb24", interpolation=_SCALING)
        return pixels.to_ndarray()

    def _blended(self, frame: VideoFrame) -> VideoFrame:
        """Lay a frame on white."""
        pixels = self._blending.reformat(frame, format="rgba").to_ndarray()
        opaque = on_white(pixels[..., :3], pixels[..., 3])
        made = VideoFrame.from_ndarray(opaque, format="rgb24")
        made.color_trc, made.color_primaries = frame.color_trc, frame.color_primaries
        return made


def is_transparent(frame: VideoFrame) -> bool:
    """Say whether pixels of a frame can be transparent; a palette's colours may be."""
    return frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components)


def on_white(pixels: np.ndarray, opacity: np.ndarray, *, multiplied: bool = False) -> np.ndarray:
    """Lay a picture on white.

    Args:
        pixels: uint8 (H, W, 3).
        opacity: uint8 (H, W).
        multiplied: Whether the pixels are multiplied with it already.

    Returns:
        uint8 (H, W, 3).
    """
    share = opacity[..., None].astype(np.uint16)
    own = np.uint16(255) if multiplied else share
    return np.minimum((pixels * own + BACKGROUND * (255 - share) + 127) // 255, 255).astype(np.uint8)
