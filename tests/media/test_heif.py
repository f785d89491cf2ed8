"""Photographs of phones: tiles are put together, cropped, made opaque and turned; what cannot be read is refused.

The files are put together here, from the boxes of ISO/IEC 23008-12, around tiles that Pillow encodes.
"""

import struct
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from idlora_pl.media.clip import MediaError
from idlora_pl.media.reading import read_clip, read_image
from tests.media.conftest import UPRIGHT, corners_of, four_corners

TILE = 64
ALPHA = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def full(kind: bytes, content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags) + content)


def encoded(tile: np.ndarray) -> tuple[bytes, bytes]:
    """Return the av1C box and the coded data of a tile, as Pillow writes them."""
    whole = BytesIO()
    Image.fromarray(tile).save(whole, "avif", quality=95, subsampling="4:4:4")
    found = whole.getvalue()
    parts = []
    for name in (b"av1C", b"mdat"):
        at = found.index(name) - 4
        length = int.from_bytes(found[at : at + 4])
        parts.append(found[at : at + length] if name == b"av1C" else found[at + 8 : at + length])
    return parts[0], parts[1]


@dataclass
class Photograph:
    """Collects items; the first is the main one."""

    items: list[tuple[bytes, bytes, list[bytes]]] = field(default_factory=list)
    references: list[tuple[bytes, int, list[int]]] = field(default_factory=list)

    def add(self, kind: bytes, content: bytes, properties: list[bytes]) -> int:
        self.items.append((kind, content, properties))
        return len(self.items)

    def add_grid(self, picture: np.ndarray, rows: int, columns: int, properties: list[bytes]) -> int:
        """Cut a picture into tiles of one size, the last of which reach beyond it."""
        height, width = picture.shape[:2]
        padded = np.pad(picture, ((0, rows * TILE - height), (0, columns * TILE - width), (0, 0)), mode="edge")
        size = full(b"ispe", struct.pack(">II", width, height))
        grid = self.add(b"grid", struct.pack(">4BHH", 0, 0, rows - 1, columns - 1, width, height), [size, *properties])
        tiles = []
        for k in range(rows * columns):
            y, x = k // columns * TILE, k % columns * TILE
            config, coded = encoded(np.ascontiguousarray(padded[y : y + TILE, x : x + TILE]))
            tiles.append(self.add(b"av01", coded, [full(b"ispe", struct.pack(">II", TILE, TILE)), config]))
        self.references.append((b"dimg", grid, tiles))
        return grid

    def write(self, path: Path) -> None:
        start = box(b"ftyp", b"avif\0\0\0\0avifmif1miaf")
        length = len(self._meta(0))
        path.write_bytes(start + self._meta(len(start) + length + 8) + box(b"mdat", b"".join(i[1] for i in self.items)))

    def _meta(self, at: int) -> bytes:
        names = range(1, len(self.items) + 1)
        infos = [full(b"infe", struct.pack(">HH4s", n, 0, self.items[n - 1][0]) + b"\0", 2) for n in names]
        places, properties, chosen = b"", [], b""
        for name, (_, content, own) in zip(names, self.items, strict=True):
            places += struct.pack(">HHHII", name, 0, 1, at, len(content))
            at += len(content)
            chosen += struct.pack(">HB", name, len(own)) + bytes(len(properties) + 1 + k for k in range(len(own)))
            properties += own
        references = b"".join(
            box(how, struct.pack(f">HH{len(to)}H", one, len(to), *to)) for how, one, to in self.references
        )
        parts = [
            full(b"hdlr", b"\0\0\0\0pict" + bytes(13)),
            full(b"pitm", struct.pack(">H", 1)),
            full(b"iloc", struct.pack(">BBH", 0x44, 0, len(self.items)) + places),
            full(b"iinf", struct.pack(">H", len(self.items)) + b"".join(infos)),
            full(b"iref", references) if references else b"",
            box(b"iprp", box(b"ipco", b"".join(properties)) + full(b"ipma", struct.pack(">I", len(names)) + chosen)),
        ]
        return full(b"meta", b"".join(parts))


TURNS = [box(b"irot", bytes([k])) for k in range(4)]
MIRRORS = {"top": box(b"imir", b"\0"), "left": box(b"imir", b"\1")}


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(0, 20), st.integers(0, 3), st.sampled_from([None, "top", "left"])
)
def test_tiles_are_put_together_cropped_and_turned(tmp_path, rows, columns, beyond, turns, mirror):
    seen = four_corners(rows * TILE - beyond, columns * TILE - beyond)
    # undo what the file says: the mirror, which comes last, then the turn to the left
    flipped = {None: seen, "top": seen[::-1], "left": seen[:, ::-1]}[mirror]
    picture = np.rot90(flipped, -turns)
    grid = (-(-picture.shape[0] // TILE), -(-picture.shape[1] // TILE))
    photograph = Photograph()
    photograph.add_grid(picture, *grid, [TURNS[turns], *([MIRRORS[mirror]] if mirror else [])])
    photograph.write(tmp_path / "a.avif")
    read = read_image(tmp_path / "a.avif")
    assert read.shape == (3, *seen.shape[:2])
    assert corners_of(read) == UPRIGHT
    # AV1 at quality 95 moves colours by a few levels
    assert np.abs(read.permute(1, 2, 0).numpy().astype(int) - seen).mean() < 4


def test_transparent_parts_of_a_photograph_are_white(tmp_path):
    picture, opacity = four_corners(96, 128), np.full((96, 128, 3), 255, np.uint8)
    opacity[:48] = 0
    photograph = Photograph()
    main = photograph.add_grid(picture, 2, 2, [])
    alpha = photograph.add_grid(opacity, 2, 2, [full(b"auxC", ALPHA)])
    photograph.references.append((b"auxl", alpha, [main]))
    photograph.write(tmp_path / "a.avif")
    assert corners_of(read_image(tmp_path / "a.avif")) == ["white", "white", "blue", "white"]
    rgba = np.concatenate([picture, opacity[..., :1]], 2)
    Image.fromarray(rgba).save(tmp_path / "b.avif")
    assert corners_of(read_image(tmp_path / "b.avif")) == ["white", "white", "blue", "white"]


def test_half_transparent_parts_are_half_white_whether_multiplied_or_not(tmp_path):
    rgba = np.full((64, 64, 4), (200, 40, 120, 128), np.uint8)
    for multiplied in (False, True):
        Image.fromarray(rgba).save(tmp_path / "a.avif", quality=98, alpha_premultiplied=multiplied)
        assert (b"prem" in (tmp_path / "a.avif").read_bytes()) == multiplied
        seen = read_image(tmp_path / "a.avif").permute(1, 2, 0).float().mean((0, 1)).numpy()
        assert np.abs(seen - (rgba[0, 0, :3] * (128 / 255) + 127)).max() < 4


def test_transparency_of_another_size_and_a_grid_of_itself_are_refused_by_name(tmp_path):
    photograph = Photograph()
    main = photograph.add_grid(four_corners(64, 64), 1, 1, [])
    alpha = photograph.add_grid(np.full((32, 32, 3), 255, np.uint8), 1, 1, [full(b"auxC", ALPHA)])
    photograph.references.append((b"auxl", alpha, [main]))
    photograph.write(tmp_path / "a.avif")
    with pytest.raises(MediaError, match=r"a\.avif has transparency of another size"):
        read_image(tmp_path / "a.avif")
    endless = Photograph()
    grid = endless.add(b"grid", struct.pack(">4BHH", 0, 0, 0, 0, TILE, TILE), [])
    endless.references.append((b"dimg", grid, [grid]))
    endless.write(tmp_path / "b.avif")
    with pytest.raises(MediaError, match=r"b\.avif has 0 tiles, not 1 x 1"):
        read_image(tmp_path / "b.avif")


def test_a_photograph_that_cannot_be_assembled_is_refused_by_name(tmp_path):
    def written(properties: list[bytes], kind: bytes = b"grid", size: int = 96) -> Path:
        photograph = Photograph()
        photograph.add_grid(four_corners(96, 96), 2, 2, properties)
        content = struct.pack(">4BHH", 0, 0, 1, 1, size, size)
        photograph.items[0] = (kind, content, photograph.items[0][2])
        photograph.write(tmp_path / "a.avif")
        return tmp_path / "a.avif"

    with pytest.raises(MediaError, match=r"a\.avif has a main picture of kind 'iovl', which is not read here; save it"):
        read_image(written([], b"iovl"))
    with pytest.raises(MediaError, match=r"a\.avif is to be cropped when it is shown \('clap'\), .*; save it as png"):
        read_image(written([box(b"clap", bytes(32))]))
    with pytest.raises(MediaError, match=r"a\.avif claims 500 x 500 pixels, its tiles have fewer; save it as png"):
        read_image(written([], size=500))
    with pytest.raises(MediaError, match=r"a\.avif has pictures but no video stream; pass a video file"):
        read_clip(written([]))
    whole = written([]).read_bytes()
    for length in range(40, len(whole), 211):
        (tmp_path / "half.avif").write_bytes(whole[:length])
        with pytest.raises(MediaError, match=r"half\.avif"):
            read_image(tmp_path / "half.avif")
