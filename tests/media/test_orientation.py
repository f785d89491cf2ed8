"""However a picture is stored, it comes out upright from every reader; what is no quarter turn is refused."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from idlora_pl.media.clip import MediaError
from idlora_pl.media.orientation import Orientation
from idlora_pl.media.reading import middle_frame, read_clip, read_image, read_recording
from idlora_pl.media.strips import read_strips
from tests.media.conftest import UPRIGHT, corners_of, four_corners, write_pictures_only

# what a writer has to do to the upright picture, so that a viewer's EXIF operation gives it back
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
# a, b, c, d of the display matrix that does the same as EXIF 1 to 8
MATRICES = {
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip


def stored(exif: int) -> Image.Image:
    picture = Image.fromarray(four_corners())
    return picture if STORED[exif] is None else picture.transpose(STORED[exif])


def write_turned(path: Path, matrix: tuple[float, ...], exif: int) -> None:
    """Write a video, and set the display matrix of its picture."""
    write_pictures_only(path, [np.asarray(stored(exif))] * 9)
    content = bytearray(path.read_bytes())
    a, b, c, d = (round(value * 65536) for value in matrix)
    at = content.index(b"tkhd") + 4 + 40
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff", "avif"])
@pytest.mark.parametrize("exif", range(1, 9))
def test_a_picture_of_any_format_and_orientation_is_read_upright(tmp_path, ending, exif):
    about = Image.Exif()
    about[0x0112] = exif
    stored(exif).save(tmp_path / f"a.{ending}", exif=about)
    read = read_image(tmp_path / f"a.{ending}")
    assert read.shape == (3, 64, 48)
    assert corners_of(read) == UPRIGHT
    assert corners_of(read_image(tmp_path / f"a.{ending}", size=(32, 32))) == UPRIGHT


@pytest.mark.parametrize("ending", ["mp4", "mov"])
@pytest.mark.parametrize("exif", range(1, 9))
def test_a_video_with_any_display_matrix_is_upright_in_every_reader(tmp_path, ending, exif):
    path = tmp_path / f"a.{ending}"
    write_turned(path, MATRICES[exif], exif)
    (strip,) = read_strips(path, 9, 25.0)
    assert strip.size == (64, 48)
    upper = next(strip.cropped((0.0, 0.0, 1.0, 0.5), (32, 48))).to_ndarray(format="rgb24")
    whole = next(strip.cropped((0.0, 0.0, 1.0, 1.0), (64, 48))).to_ndarray(format="rgb24")
    shown = {
        "read_clip": read_clip(path).frames[0],
        "read_recording": read_recording(path).frames[0],
        "middle_frame": middle_frame(path),
        "small": strip.small([0], 64)[0],
        "cropped": torch.from_numpy(whole).permute(2, 0, 1),
    }
    for reader, picture in shown.items():
        assert picture.shape == (3, 64, 48), reader
        assert corners_of(picture) == UPRIGHT, reader
    assert corners_of(torch.from_numpy(upper).permute(2, 0, 1)) == ["red", "green", "red", "green"]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_matroska_video_is_upright(tmp_path, rotation):
    turned = np.ascontiguousarray(np.rot90(four_corners(), -rotation // 90))
    write_pictures_only(tmp_path / "a.mkv", [turned] * 3, rotation=rotation)
    assert corners_of(read_clip(tmp_path / "a.mkv").frames[0]) == UPRIGHT


@pytest.mark.parametrize("matrix", [(0.7071, 0.7071, -0.7071, 0.7071), (1, 0.2, 0, 1), (0, 0, 0, 0), (1, 1, 1, 1)])
def test_a_matrix_that_is_no_quarter_turn_is_refused_by_name(tmp_path, matrix):
    write_turned(tmp_path / "a.mp4", matrix, 1)
    with pytest.raises(MediaError, match=r"a\.mp4 says that its picture is to be shown through the matrix .*encode it"):
        read_clip(tmp_path / "a.mp4")
    with pytest.raises(MediaError, match=r"a\.mp4 says"):
        list(read_strips(tmp_path / "a.mp4", 9, 25.0))


orientations = st.builds(Orientation, st.booleans(), st.integers(0, 3))


@given(orientations, orientations, st.tuples(*[st.integers(0, 11)] * 4))
def test_orientations_follow_each_other_and_boxes_follow_pictures(one, other, edges):
    picture = np.arange(12 * 12).reshape(12, 12, 1)
    assert np.array_equal(one.then(other).upright(picture), other.upright(one.upright(picture)))
    left, right, top, bottom = *sorted(edges[:2]), *sorted(edges[2:])
    box = left / 12, top / 12, (right + 1) / 12, (bottom + 1) / 12
    x0, y0, x1, y1 = (round(edge * 12) for edge in one.stored(box))
    inside = one.upright(picture)[top : bottom + 1, left : right + 1]
    assert np.array_equal(one.upright(picture[y0:y1, x0:x1]), inside)
