"""How a stored picture is turned and mirrored to stand upright: FFmpeg's display matrix, and EXIF, which it becomes.

Letters: H W pixels, C colours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import numpy as np
from av.buffer import Buffer
from av.filter import Graph
from av.video.frame import VideoFrame

from idlora_pl.media.clip import MediaError

Box = tuple[float, float, float, float]
_MIRROR, _TURN = np.array([[-1, 0], [0, 1]]), np.array([[0, -1], [1, 0]])
"""Where (x, y) goes, as rows x' y' of row vectors; y points down, so a quarter turn to the left moves x to -y."""
_UNNAMED = range(28, 40)
"""FFmpeg's kinds of side data that PyAV has no name for; it cannot list the others while one of them is there."""


@dataclass(frozen=True)
class Orientation:
    """What makes a stored picture upright: mirror it left to right, then turn it to the left.

    Attributes:
        mirrored: Whether left and right are exchanged first.
        turns: Quarter turns to the left that follow, 0 to 3.
    """

    mirrored: bool = False
    turns: int = 0

    @property
    def lies(self) -> bool:
        """Whether the stored picture lies on its side, so that height and width are exchanged."""
        return self.turns % 2 == 1

    def upright(self, pixels: np.ndarray) -> np.ndarray:
        """Return a picture (H, W, C) upright."""
        return np.rot90(pixels[:, ::-1] if self.mirrored else pixels, self.turns)

    def then(self, other: "Orientation") -> "Orientation":
        """Return both, one after the other."""
        turns = -self.turns if other.mirrored else self.turns
        return Orientation(self.mirrored != other.mirrored, (turns + other.turns) % 4)

    def stored(self, box: Box) -> Box:
        """Return where a box (left, top, right, bottom, as shares) of the upright picture lies in the stored one."""
        left, top, right, bottom = box
        for _ in range(self.turns):
            # one quarter turn to the left moves (x, y) to (y, 1 - x); this is its inverse
            left, top, right, bottom = 1 - bottom, left, 1 - top, right
        return (1 - right, top, 1 - left, bottom) if self.mirrored else (left, top, right, bottom)

    def filters(self) -> list[tuple[str, str]]:
        """Return FFmpeg's filters that make a picture upright, with their arguments."""
        return [("hflip", "")] * self.mirrored + [("transpose", "cclock")] * self.turns


def orientation_of(frame: VideoFrame, name: str) -> Orientation:
    """Read the orientation of a decoded frame.

    Args:
        frame: As decoded.
        name: Of the file, for the message.

    Raises:
        MediaError: The picture is turned by something else than quarter turns, or sheared.
    """
    try:
        found = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        found = _named_only(frame).side_data.get("DISPLAYMATRIX")
    if found is None:
        return Orientation()
    matrix = np.frombuffer(memoryview(cast(Buffer, found)), np.int32).reshape(3, 3)[:2, :2]
    return _orientation(matrix.astype(np.int64).tolist(), name)


def _orientation(matrix: Sequence[Sequence[int]], name: str) -> Orientation:
    """Return what a 2x2 matrix (16.16 fixed point; its rows are where x and y go) does, scaling aside."""
    whole = np.array(matrix, np.float64)
    signs = np.where(np.abs(whole) > np.abs(whole).max() / 1000, np.sign(whole), 0)
    for mirrored in (False, True):
        for turns in range(4):
            expected = (_MIRROR if mirrored else np.eye(2)) @ np.linalg.matrix_power(_TURN, turns)
            if np.array_equal(signs, expected):
                return Orientation(mirrored, turns)
    shown = " ".join(f"{value / 65536:.3g}" for row in matrix for value in row)
    raise MediaError(
        f"{name} says that its picture is to be shown through the matrix {shown}, which is no quarter turn or mirror; "
        "encode it again upright"
    )


def _named_only(frame: VideoFrame) -> VideoFrame:
    """Return a frame without the side data that PyAV stumbles over."""
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
    )
    parts = [source, *(graph.add("sidedata", f"mode=delete:type={kind}") for kind in _UNNAMED)]
    parts.append(graph.add("buffersink"))
    for earlier, later in zip(parts, parts[1:], strict=False):
        earlier.link_to(later)
    graph.configure()
    graph.push(frame)
    found = graph.pull()
    assert isinstance(found, VideoFrame)
    return found
