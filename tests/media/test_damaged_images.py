"""Pictures that are damaged or more than one are refused by name, never shown in part."""

import io

import pytest
from PIL import Image

from idlora_pl.media.clip import MediaError
from idlora_pl.media.reading import read_image
from tests.media.conftest import UPRIGHT, corners_of, four_corners


def as_bytes(form: str, **options: object) -> bytes:
    """Return the picture of four corners in a format of Pillow."""
    stream = io.BytesIO()
    Image.fromarray(four_corners(640, 480)).save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize(("form", "options"), [
    ("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {}),
])  # fmt: skip
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_half_a_picture_is_refused_by_name(tmp_path, form, options, share):
    whole = as_bytes(form, **options)
    path = tmp_path / f"half.{form.lower()}"
    path.write_bytes(whole[: round(len(whole) * share)])
    with pytest.raises(MediaError, match=rf"half\.{form.lower()} .*fetch it again"):
        read_image(path)


def test_icons_of_several_sizes_are_refused(tmp_path):
    (tmp_path / "a.ico").write_bytes(as_bytes("ICO", sizes=[(16, 16), (48, 48)]))
    with pytest.raises(MediaError, match=r"a\.ico holds 2 pictures, not one"):
        read_image(tmp_path / "a.ico")


@pytest.mark.parametrize("kind", ["no end", "rest behind the end", "damaged EXIF", "second picture behind the first"])
def test_what_damages_no_pixel_is_no_reason_to_refuse(tmp_path, kind):
    """Cameras and telephones write all of these; the last is how HDR and depth are kept beside a jpg."""
    whole = as_bytes("JPEG", quality=95)
    exif = b"\xff\xe1\x00\x20Exif\0\0II*\0\x99\x99\x99\x99" + b"w" * 16
    changed = {
        "no end": whole[:-2],
        "rest behind the end": whole + bytes(5000),
        "damaged EXIF": whole[:2] + exif + whole[2:],
        "second picture behind the first": whole + as_bytes("JPEG", quality=20),
    }
    (tmp_path / "a.jpg").write_bytes(changed[kind])
    assert corners_of(read_image(tmp_path / "a.jpg")) == UPRIGHT
