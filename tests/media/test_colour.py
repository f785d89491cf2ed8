"""Colours are those that a viewer shows: matrices, ranges, HDR, wide colours, transparency."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from idlora_pl.media.clip import MediaError
from idlora_pl.media.colour import Screen
from idlora_pl.media.decoding import to_rgb
from idlora_pl.media.reading import read_clip, read_image
from idlora_pl.media.strips import read_strips
from tests.media.conftest import four_corners

# AVColorSpace: (red's and blue's share of the luma), ITU-T H.273
LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
RED = np.array([220, 30, 30]) / 255
WHITE_NITS = 203


def coded(rgb: np.ndarray, matrix: int, *, full: bool, bits: int = 8) -> list[int]:
    """Return Y, Cb and Cr of colours in [0, 1] (H.273)."""
    red, blue = LUMA[matrix]
    luma = red * rgb[0] + (1 - red - blue) * rgb[1] + blue * rgb[2]
    parts = np.array([luma, (rgb[2] - luma) / (2 - 2 * blue), (rgb[0] - luma) / (2 - 2 * red)])
    scale = np.array([255, 255, 255] if full else [219, 224, 224]) * 2 ** (bits - 8)
    offset = np.array([0 if full else 16, 128, 128]) * 2 ** (bits - 8)
    return np.clip(np.round(parts * scale + offset), 0, 2**bits - 1).astype(int).tolist()


def write_stripes(path: Path, colours: list[np.ndarray], matrix: int, *, full: bool, trc: int, primaries: int) -> None:
    """Write stripes of 16 columns, 10 bit and without loss where the transfer is one of HDR."""
    deep = trc in (14, 16, 18)
    values = np.array([coded(colour, matrix, full=full, bits=10 if deep else 8) for colour in colours])
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.height, video.width, video.pix_fmt = 32, 16 * len(colours), "yuv420p10le" if deep else "yuv420p"
        context = video.codec_context
        context.colorspace, context.color_range = matrix, 2 if full else 1
        context.color_trc, context.color_primaries = trc, primaries
        sound = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for k in range(9):
            frame = av.VideoFrame(video.width, 32, video.pix_fmt)
            frame.colorspace, frame.color_range, frame.pts = matrix, 2 if full else 1, k
            frame.color_trc, frame.color_primaries = trc, primaries
            for plane, levels, width in zip(frame.planes, values.T, (16, 8, 8), strict=True):
                row = np.repeat(levels, width).astype(np.uint16 if deep else np.uint8)
                lines = np.zeros((plane.height, plane.line_size // row.itemsize), row.dtype)
                lines[:, : len(row)] = row
                plane.update(lines.tobytes())
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        heard = av.AudioFrame.from_ndarray(np.full((1, 5760), 999, np.int16), format="s16", layout="mono")
        heard.sample_rate = 16000
        container.mux([*sound.encode(heard), *sound.encode(None)])


def stripes_of(frame: np.ndarray) -> np.ndarray:
    """Return the colours (n, 3) in the middle of each stripe of (H, W, 3)."""
    return frame[16, 8::16].astype(int)


def read_both(path: Path) -> dict[str, np.ndarray]:
    """Read through the two paths that pixels take: to tensors, and from video to video."""
    (strip,) = read_strips(path, 9, 25.0)
    cropped = next(strip.cropped((0.0, 0.0, 1.0, 1.0), strip.size))
    assert (cropped.colorspace, cropped.color_range) == (1, 1)
    tensor = read_clip(path, n_frames=1).frames[0].permute(1, 2, 0).numpy()
    return {"read_clip": stripes_of(tensor), "cropped": stripes_of(cropped.to_ndarray(format="rgb24"))}


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", sorted(LUMA))
def test_every_matrix_and_range_gives_its_colours(tmp_path, matrix, full):
    colours = [RED, RED[[1, 0, 2]], np.array([200, 150, 120]) / 255]
    write_stripes(tmp_path / "a.mkv", colours, matrix, full=full, trc=1, primaries=1)
    for reader, found in read_both(tmp_path / "a.mkv").items():
        # 8 bit YCbCr tells colours apart to about two levels; the second path passes it twice
        assert np.abs(found - 255 * np.array(colours)).max() <= 4, reader


def pq(nits: np.ndarray) -> np.ndarray:
    """Perceptual quantiser (SMPTE ST 2084)."""
    power = (nits / 10000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def hlg(nits: np.ndarray) -> np.ndarray:
    """Hybrid log-gamma (ARIB STD-B67) of a display of 1000 cd/m2; colours are those of the scene."""
    luma = nits @ np.array([0.2627, 0.678, 0.0593]) / 1000
    scene = nits / 1000 * (luma ** (1 / 1.2 - 1) if luma > 0 else 0)
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(12 * scene - 0.28466892 + 1e-9) + 0.55991)


TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""From BT.709 to BT.2020 (ITU-R BT.2087)."""
SHOWN = np.array([[0, 0, 0], [60, 60, 60], [128, 128, 128], [200, 200, 200], [160, 110, 90], [90, 120, 160]]) / 255


@pytest.mark.parametrize(("name", "trc"), [pytest.param("pq", 16, marks=pytest.mark.slow), ("hlg", 18)])
def test_hdr_is_shown_in_the_range_of_bt_709(tmp_path, name, trc):
    nits = [WHITE_NITS * TO_2020 @ colour**2.4 for colour in SHOWN]
    given = [pq(colour) if name == "pq" else hlg(colour) for colour in nits]
    write_stripes(tmp_path / "a.mkv", given, 9, full=False, trc=trc, primaries=9)
    tensor = read_clip(tmp_path / "a.mkv", n_frames=1).frames[0].permute(1, 2, 0).numpy()
    # FFmpeg fits into the range with a knee below white and a table of 10 bits
    assert np.abs(stripes_of(tensor) - 255 * SHOWN).max() <= 12


@pytest.mark.slow
@pytest.mark.parametrize(("trc", "curve"), [(16, pq), (18, hlg)])
def test_hdr_that_is_cut_is_shown_alike(tmp_path, trc, curve):
    given = [curve(WHITE_NITS * TO_2020 @ colour**2.4) for colour in SHOWN]
    write_stripes(tmp_path / "a.mkv", given, 9, full=False, trc=trc, primaries=9)
    for reader, found in read_both(tmp_path / "a.mkv").items():
        assert np.abs(found - 255 * SHOWN).max() <= 14, reader


@pytest.mark.slow
def test_wide_colours_without_hdr_are_those_of_bt_709(tmp_path):
    given = [(TO_2020 @ colour**2.4) ** (1 / 2.4) for colour in SHOWN]
    write_stripes(tmp_path / "a.mkv", given, 9, full=False, trc=14, primaries=9)
    for reader, found in read_both(tmp_path / "a.mkv").items():
        assert np.abs(found - 255 * SHOWN).max() <= 10, reader


def test_a_frame_looks_the_same_after_frames_of_other_kinds():
    random = np.random.default_rng(0)
    kinds = [("yuv420p", 1, 1), ("yuv420p", 1, 2), ("yuv420p", 9, 1), ("yuv444p", 5, 1), ("gray", 2, 0), ("rgba", 2, 0)]
    frames = []
    for height, width in ((32, 48), (48, 32), (64, 64)):
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        for form, matrix, full in kinds:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=form)
            frame.colorspace, frame.color_range = matrix, full
            frames.append(frame)
    screen = Screen("a.mkv")
    for index in [*random.permutation(len(frames)), *random.permutation(len(frames))]:
        for size in (None, (32, 32)):
            found = to_rgb(frames[index], screen, size=size)
            assert torch.equal(found, to_rgb(frames[index], Screen("a.mkv"), size=size)), (kinds[index % 6], size)


def test_colours_that_cannot_be_converted_are_refused_by_name(tmp_path):
    write_stripes(tmp_path / "a.mkv", [RED], 9, full=False, trc=16, primaries=9)
    content = (tmp_path / "a.mkv").read_bytes()
    # MatrixCoefficients (0x55B1) of Matroska
    assert b"\x55\xb1\x81\x09" in content
    (tmp_path / "a.mkv").write_bytes(content.replace(b"\x55\xb1\x81\x09", b"\x55\xb1\x81\x0e"))
    with pytest.raises(
        MediaError, match=r"a\.mkv has colours in ICtCp, which cannot be converted; encode it again as BT"
    ):
        read_clip(tmp_path / "a.mkv")


def transparent() -> Image.Image:
    """The four corners, of which the upper half is transparent magenta."""
    picture = np.dstack([four_corners(), np.full((64, 48), 255, np.uint8)])
    picture[:32] = (255, 0, 255, 0)
    return Image.fromarray(picture)


def write_transparent(path: Path, mode: str) -> None:
    picture = transparent()
    if mode == "tRNS":
        picture.convert("RGB").save(path, transparency=(255, 0, 255))
    elif mode == "P":
        picture.quantize(16).save(path)
    else:
        picture.convert(mode).save(path, **({"lossless": True} if path.suffix == ".webp" else {}))


@pytest.mark.parametrize(
    ("ending", "mode"),
    [("png", "RGBA"), ("png", "LA"), ("png", "P"), ("png", "tRNS"), ("webp", "RGBA"), ("tiff", "RGBA"), ("bmp", "RGBA"),
     ("gif", "RGBA"), ("avif", "RGBA")],
)  # fmt: skip
def test_transparent_pixels_are_white_in_every_format(tmp_path, ending, mode):
    write_transparent(tmp_path / f"a.{ending}", mode)
    read = read_image(tmp_path / f"a.{ending}").int()
    assert (read[:, 3:29, 3:45] >= 252).all()
    expected = transparent().convert(mode if mode in ("LA",) else "RGBA").convert("RGB")
    below = torch.from_numpy(np.array(expected)).permute(2, 0, 1).int()
    # AVIF is lossy, palettes are of 16 colours
    assert (read[:, 36:61, 4:20] - below[:, 36:61, 4:20]).abs().max() < 12


def test_half_transparent_pixels_are_half_white(tmp_path):
    Image.new("RGBA", (32, 32), (200, 100, 0, 128)).save(tmp_path / "a.png")
    expected = [round(value * 128 / 255 + 127) for value in (200, 100, 0)]
    assert (read_image(tmp_path / "a.png")[:, 9, 9].int() - torch.tensor(expected)).abs().max() <= 1


@pytest.mark.parametrize(("mode", "ending", "expected"), [
    ("I;16", "png", [128, 128, 128]), ("L", "png", [128, 128, 128]), ("1", "png", [255, 255, 255]),
    ("CMYK", "jpg", [220, 30, 30]), ("RGB", "jpg", [220, 30, 30]), ("L", "jpg", [128, 128, 128]),
])  # fmt: skip
def test_pictures_of_any_depth_and_mode_have_their_colours(tmp_path, mode, ending, expected):
    if mode == "I;16":
        picture = Image.fromarray(np.full((32, 32), 128 * 257, np.uint16))
    elif mode in ("L", "1"):
        picture = Image.new(mode, (32, 32), 255 if mode == "1" else 128)
    else:
        picture = Image.new("RGB", (32, 32), (220, 30, 30)).convert(mode)
    picture.save(tmp_path / f"a.{ending}", **({"quality": 95} if ending == "jpg" else {}))
    assert (read_image(tmp_path / f"a.{ending}")[:, 9, 9].int() - torch.tensor(expected)).abs().max() <= 2


def test_a_video_with_transparency_is_laid_on_white(tmp_path):
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        video = container.add_stream("qtrle", rate=25)
        video.height, video.width, video.pix_fmt = 64, 48, "argb"
        for k in range(9):
            frame = av.VideoFrame.from_ndarray(np.array(transparent()), format="rgba").reformat(format="argb")
            frame.pts = k
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    (strip,) = read_strips(tmp_path / "a.mov", 9, 25.0)
    cut = next(strip.cropped((0.0, 0.0, 1.0, 1.0), (64, 48))).to_ndarray(format="rgb24")
    assert (cut[4:28] >= 252).all()
    assert (strip.small([0], 64)[0, :, 4:28] >= 252).all()
