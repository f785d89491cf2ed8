"""Picture and sound begin together, at the first frame that can be shown, wherever a file's clock begins.

At the same moments the picture flashes and the sound clicks; a reader that keeps them together is right.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from idlora_pl.media.reading import probe, read_clip, read_image, read_part_sound, read_recording
from idlora_pl.media.strips import read_strips
from tests.media.conftest import CORNERS

FPS, RATE_HZ = 25, 48000
FLASHES = {-12, 13, 33, 60, 95, 125, 152}
"""Frame periods in which it flashes and clicks, no two distances alike."""


def write_clapper(
    path: Path, *, form: str | None = None, seconds: int = 5, picture_at: int = 0, sound_at: int = 0,
    codec: str = "libx264", sound_codec: str = "aac", **options: str,
) -> None:  # fmt: skip
    """Write flashes and clicks.

    Args:
        path: the file.
        form: its format.
        seconds: its length.
        picture_at: frame period in which the first picture is shown; may be negative.
        sound_at: the same for the first sample.
        codec: of the picture.
        sound_codec: of the sound.
        options: of the encoder of the picture.
    """
    with av.open(str(path), "w", format=form, options={"avoid_negative_ts": "disabled"}) as container:
        video = container.add_stream(codec, rate=FPS)
        video.width = video.height = 64
        video.pix_fmt, video.options = "yuv420p", options
        video.codec_context.gop_size = 50
        sound = container.add_stream(sound_codec, rate=RATE_HZ, layout="mono")
        period = RATE_HZ // FPS
        for k in range(seconds * FPS):
            at = k + min(picture_at, sound_at)
            flashes = at in FLASHES
            if at >= picture_at:
                grey = np.full((64, 64, 3), 230 if flashes else 40, np.uint8)
                grey[:, : at % 32] += 9
                frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
                frame.pts, frame.time_base = at, Fraction(1, FPS)
                container.mux(video.encode(frame))
            if at >= sound_at:
                wave = 0.8 * np.sin(2 * np.pi * 2000 * np.arange(period) / RATE_HZ) * flashes
                heard = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
                heard.sample_rate, heard.pts, heard.time_base = RATE_HZ, at * period, Fraction(1, RATE_HZ)
                container.mux(sound.encode(heard))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))


def flashes_of(frames: Tensor) -> list[float]:
    """Seconds at which the picture (F, 3, H, W) flashes."""
    bright = frames.float().mean((1, 2, 3)) > 130
    return (bright.nonzero()[:, 0] / FPS).tolist()


def clicks_of(waveform: Tensor, rate_hz: int) -> list[float]:
    """Seconds at which a click begins."""
    size = rate_hz // 200
    loud = waveform[0, : waveform.shape[1] // size * size].reshape(-1, size).abs().amax(1) > 0.25
    begins = loud & ~torch.cat([torch.tensor([False]), loud[:-1]])
    return (begins.nonzero()[:, 0] * size / rate_hz).tolist()


def check_together(path: Path, *, sound_from_s: float = 0.0, least: int = 3) -> list[float]:
    """Compare flashes with clicks in every reader that gives both; return the flashes.

    Args:
        path: the file.
        sound_from_s: when its sound begins, in seconds after its first frame.
        least: how many there must be.
    """
    clip, whole = read_clip(path), read_recording(path)
    late = read_clip(path, start_s=1.2, frame_rate_fps=25.0, n_frames=50)
    strip = next(read_strips(path, 75, 25.0))
    seen = torch.stack([torch.from_numpy(f.to_ndarray(format="rgb24")).permute(2, 0, 1) for f in strip.frames])
    part, hz = read_part_sound(path, 0.0, 3.0)
    late_part, _ = read_part_sound(path, 1.2, 2.0)
    pairs = {
        "read_clip": (clip.frames, clip.waveform, clip.sample_rate_hz),
        "read_recording": (whole.frames, whole.waveform, whole.sample_rate_hz),
        "read_clip from 1.2 s on": (late.frames, late.waveform, late.sample_rate_hz),
        "strip": (seen, part, hz),
        "strip from 1.2 s on": (late.frames, late_part, hz),
    }
    for reader, (frames, waveform, rate_hz) in pairs.items():
        begins = sound_from_s - 1.2 if "1.2" in reader else sound_from_s
        flashes = [flash for flash in flashes_of(frames) if flash >= begins + 0.06]
        clicks = [click for click in clicks_of(waveform, rate_hz) if click >= begins + 0.06]
        assert len(flashes) >= (least if reader in ("read_clip", "read_recording") else 1), reader
        # the last of either may lie beyond the end of the other
        assert abs(len(flashes) - len(clicks)) <= 1, (reader, flashes, clicks)
        for flash, click in zip(flashes, clicks, strict=False):
            # a click may ring before it begins, in lossy codecs
            assert abs(flash - click) <= 0.025, (reader, flashes, clicks)
    flashes = flashes_of(late.frames)
    later = [flash - 1.2 for flash in flashes_of(clip.frames) if 1.2 <= flash < 3.2]
    assert flashes == pytest.approx(later, abs=0.021)
    return flashes_of(clip.frames)


@pytest.mark.parametrize(
    ("picture_at", "sound_at"), [(0, 0), (10, 0), (0, 10), (-25, -25), (-20, -5), (-5, -20), (40, 30)]
)
@pytest.mark.parametrize(
    "ending", ["mp4", *(pytest.param(one, marks=pytest.mark.slow) for one in ("ts", "mov", "mkv", "avi"))]
)
def test_picture_and_sound_begin_together_wherever_their_clocks_begin(tmp_path, ending, picture_at, sound_at):
    if ending == "avi" and (picture_at, sound_at) != (0, 0):
        pytest.skip("avi has no clock")
    codecs = {"avi": {"codec": "mpeg4", "sound_codec": "pcm_s16le"}}.get(ending, {})
    form = {"ts": "mpegts", "mkv": "matroska"}.get(ending)
    path = tmp_path / f"a.{ending}"
    write_clapper(path, form=form, picture_at=picture_at, sound_at=sound_at, **codecs)
    # mp4 and mov have an edit list, which begins at zero and leaves out what is before it
    begin = max(picture_at, 0) if ending in ("mp4", "mov") else picture_at
    flashes = check_together(path, sound_from_s=max(0, sound_at - begin) / FPS)
    assert flashes[0] == pytest.approx((min(at for at in FLASHES if at >= begin) - begin) / FPS, abs=0.001)


@pytest.mark.parametrize("options", [{"bf": "3"}, {"bf": "0"}, {"bf": "3", "x264-params": "open-gop=1"}])
@pytest.mark.parametrize("share", [0.07, *(pytest.param(one, marks=pytest.mark.slow) for one in (0.2, 0.31))])
def test_a_transport_stream_that_begins_anywhere_begins_with_its_first_whole_picture(tmp_path, options, share):
    write_clapper(tmp_path / "whole.ts", form="mpegts", seconds=8, **options)
    content = (tmp_path / "whole.ts").read_bytes()
    n_packets = len(content) // 188
    (tmp_path / "a.ts").write_bytes(content[: 3 * 188] + content[188 * round(n_packets * share) :])
    check_together(tmp_path / "a.ts", least=2)
    assert probe(tmp_path / "a.ts").n_frames == len(read_clip(tmp_path / "a.ts").frames)
    (whole,) = [one for one in read_strips(tmp_path / "a.ts", 57, 25.0) if one.start_s == 0]
    assert len({id(frame) for frame in whole.frames}) == 57  # none stands still


def test_an_edit_list_begins_where_the_editor_cut(tmp_path):
    write_clapper(tmp_path / "a.mp4")
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    # media_time of the picture's first edit, in its time base: 0.4 s later
    at = content.index(b"elst") + 4
    duration, media_time = int.from_bytes(content[at + 8 : at + 12]), int.from_bytes(content[at + 12 : at + 16])
    scale_at = content.index(b"mdhd") + 4 + 12
    scale = int.from_bytes(content[scale_at : scale_at + 4])
    content[at + 12 : at + 16] = (media_time + scale * 2 // 5).to_bytes(4)
    content[at + 8 : at + 12] = (duration - 400).to_bytes(4)
    (tmp_path / "b.mp4").write_bytes(content)
    before, after = read_clip(tmp_path / "a.mp4"), read_clip(tmp_path / "b.mp4")
    assert flashes_of(after.frames)[0] == pytest.approx(flashes_of(before.frames)[0] - 0.4, abs=0.001)
    assert clicks_of(after.waveform, RATE_HZ)[0] == pytest.approx(clicks_of(before.waveform, RATE_HZ)[0], abs=0.01)


def write_two_videos(path: Path, order: tuple[str, ...], default: str | None = None) -> None:
    """Write several video streams of one colour each; "cover" is marked as an attached picture."""
    with av.open(str(path), "w") as container:
        streams = {}
        for name in order:
            streams[name] = container.add_stream("png" if name == "cover" else "libx264", rate=FPS)
            streams[name].width = streams[name].height = 64
            streams[name].pix_fmt = "rgb24" if name == "cover" else "yuv420p"
            mark = av.stream.Disposition.attached_pic if name == "cover" else av.stream.Disposition(0)
            streams[name].disposition = av.stream.Disposition.default if name == default else mark
        for name, stream in streams.items():
            colour = CORNERS["blue"] if name == "cover" else CORNERS[name]
            for k in range(1 if name == "cover" else 10):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), colour, np.uint8), format="rgb24")
                frame.pts = k
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


@pytest.mark.parametrize(("order", "default", "expected"), [
    (("red",), None, "red"), (("cover", "red"), None, "red"), (("red", "cover"), None, "red"),
    (("green", "red"), "red", "red"), (("red", "green"), None, "red"), (("cover", "green", "red"), "red", "red"),
])  # fmt: skip
def test_the_video_is_the_default_stream_else_the_first_and_never_a_cover(tmp_path, order, default, expected):
    write_two_videos(tmp_path / "a.mp4", order, default)
    frames = read_recording(tmp_path / "a.mp4").frames
    assert frames.shape == (10, 3, 64, 64)
    assert frames.float().mean((0, 2, 3)).argmax() == np.argmax(CORNERS[expected])


def test_a_song_with_a_cover_is_no_video_and_no_image(tmp_path):
    write_two_videos(tmp_path / "a.mp4", ("cover",))
    with pytest.raises(ValueError, match=r"a\.mp4 has pictures but no video stream; pass a video file"):
        read_clip(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=r"a\.mp4 is not an image; pass a png or jpg"):
        read_image(tmp_path / "a.mp4")
