"""Files in, clips out and back; made here with PyAV, FFmpeg's own decoders are the independent reference."""

import math
import struct
import subprocess
import sys
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from idlora_pl.media.clip import Clip, MediaError
from idlora_pl.media.reading import probe, read_audio, read_clip, read_image, read_metadata, read_recording
from idlora_pl.media.writing import AI_GENERATED_LABEL, write_clip

SHARED = Path(__file__).parents[3] / "shared" / "media"
needs_media = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/media is not on this machine")

CLICK_AT = 8000


def four_colours(n_frames: int = 25, size: int = 64) -> Tensor:
    """Frames with a red, a green, a blue and a grey quarter; the grey one brightens with time."""
    frames = torch.zeros(n_frames, 3, size, size, dtype=torch.uint8)
    half = size // 2
    frames[:, 0, :half, :half] = 255
    frames[:, 1, :half, half:] = 255
    frames[:, 2, half:, :half] = 255
    frames[:, :, half:, half:] = (torch.arange(n_frames) * 5)[:, None, None, None].to(torch.uint8)
    return frames


def clicking(channels: int = 1, n_samples: int = 16000, rate_hz: int = 16000) -> Tensor:
    """A short 500 Hz burst at sample CLICK_AT, silence elsewhere."""
    waveform = torch.zeros(channels, n_samples)
    burst = torch.sin(2 * math.pi * 500 * torch.arange(rate_hz // 50) / rate_hz) * 0.8
    waveform[:, CLICK_AT : CLICK_AT + len(burst)] = burst[: max(0, n_samples - CLICK_AT)]
    return waveform


def burst_position(waveform: Tensor) -> int:
    """Sample at which `clicking`'s burst best fits."""
    burst = clicking()[0, CLICK_AT : CLICK_AT + 320]
    return int(torch.nn.functional.conv1d(waveform[:1, None], burst[None, None])[0, 0].argmax())


def write_video(path: Path, levels: list[int], rate: int, *, codec: str) -> None:
    """Write grey frames with the given levels and a track of sound, without our own writer."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=rate, width=32, height=32, pix_fmt="yuv420p")
        encoder = {".webm": "libopus", ".mpg": "mp2"}.get(path.suffix, "aac")
        sound = container.add_stream(encoder, rate=48000, layout="mono")
        for level in levels:
            grey = np.full((32, 32, 3), level, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(video.encode(None))
        level = np.full((1, 48000 * len(levels) // rate), 8192, np.int16)
        frame = av.AudioFrame.from_ndarray(level, format="s16", layout="mono")
        frame.sample_rate = 48000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def write_wav(path: Path, samples: np.ndarray, rate_hz: int) -> None:
    """Write int16 (S, channels) with the standard library."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())


def test_a_written_clip_is_read_back(tmp_path):
    clip = Clip(four_colours(), clicking(), 25.0, 16000)
    write_clip(clip, tmp_path / "clip.mp4", scale=4)
    again = read_clip(tmp_path / "clip.mp4", size=(64, 64))
    assert again.frames.shape == clip.frames.shape
    assert (again.frame_rate_fps, again.sample_rate_hz) == (25.0, 16000)
    # mean over pixels: H.264 at crf 18 blurs the borders of the quarters only
    assert (again.frames.float() - clip.frames.float()).abs().mean() < 2
    assert (again.frames[:, :, 16, 16].int() - clip.frames[:, :, 16, 16].int()).abs().max() <= 3


def test_sound_keeps_its_place_to_the_sample(tmp_path):
    write_clip(Clip(four_colours(), clicking(), 25.0, 16000), tmp_path / "clip.mp4")
    again = read_clip(tmp_path / "clip.mp4")
    assert again.waveform.shape == (1, 16000)
    assert abs(burst_position(again.waveform) - CLICK_AT) <= 1


def write_with_gap(path: Path, *, picture_s: int = 0, sound_s: int = 0) -> None:
    """Write two seconds of picture and sound, with a gap in the middle of either's clock, into mkv."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, width=64, height=64, pix_fmt="yuv420p")
        video.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("flac", rate=48000, layout="mono")
        for k in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 4 * k, np.uint8), format="rgb24")
            frame.pts, frame.time_base = 40 * k + 1000 * picture_s * (k >= 25), Fraction(1, 1000)
            container.mux(video.encode(frame.reformat(format="yuv420p")))
        container.mux(video.encode(None))
        for k in range(50):
            part = av.AudioFrame.from_ndarray(np.full((1, 1920), 100 * k, np.int16), format="s16", layout="mono")
            part.sample_rate, part.time_base = 48000, Fraction(1, 48000)
            part.pts = 1920 * k + 48000 * sound_s * (k >= 25)
            container.mux(sound.encode(part))
        container.mux(sound.encode(None))


def test_a_short_gap_is_a_pause_and_a_clock_that_leaps_for_days_is_refused(tmp_path):
    write_with_gap(tmp_path / "pause.mkv", picture_s=5, sound_s=5)
    pause = read_recording(tmp_path / "pause.mkv")
    assert pause.waveform.shape[1] == pytest.approx(7 * 48000, abs=48)
    assert len(read_clip(tmp_path / "pause.mkv", frame_rate_fps=25.0).frames) == pytest.approx(175, abs=1)
    write_with_gap(tmp_path / "sound.mkv", sound_s=200_000)
    with pytest.raises(MediaError, match=r"sound.mkv: its sound lasts 2 s, but its clock leaps to at least 200002 s"):
        read_recording(tmp_path / "sound.mkv")
    assert read_clip(tmp_path / "sound.mkv").waveform.shape == (1, 96000)  # what is asked for is there
    write_with_gap(tmp_path / "picture.mkv", picture_s=200_000)
    with pytest.raises(MediaError, match=r"picture.mkv: its picture lasts 1 s, but its clock leaps to at least 70 s"):
        read_clip(tmp_path / "picture.mkv", frame_rate_fps=25.0)
    with pytest.raises(MediaError, match=r"picture.mkv: its picture lasts 1 s, but its clock leaps to at least 70 s"):
        read_recording(tmp_path / "picture.mkv")


PEAK = """
import sys
from pathlib import Path
from idlora_pl.media.reading import read_recording
def peak(): return next(int(l.split()[1]) for l in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in l)
before = peak()
frames = read_recording(sys.argv[1]).frames
print(1024 * (peak() - before) / frames.numel(), len(frames))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the peak of memory from /proc")
@pytest.mark.slow
def test_reading_takes_little_more_memory_than_the_frames(tmp_path):
    write_clip(Clip(four_colours(200, 64), clicking(), 25.0, 16000), tmp_path / "large.mp4", scale=12)
    done = subprocess.run([sys.executable, "-c", PEAK, str(tmp_path / "large.mp4")], capture_output=True, check=True)
    share, n_frames = map(float, done.stdout.split())
    assert n_frames == 200
    assert share < 1.5


def test_a_picture_that_changes_its_size_is_refused(tmp_path):
    for side in (32, 64):
        with av.open(str(tmp_path / f"{side}.h264"), "w", format="h264") as container:
            stream = container.add_stream("libx264", rate=25, width=side, height=side, pix_fmt="yuv420p")
            for _ in range(5):
                grey = np.full((side, side, 3), 99, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            container.mux(stream.encode(None))
    both = tmp_path / "both.h264"
    both.write_bytes((tmp_path / "32.h264").read_bytes() + (tmp_path / "64.h264").read_bytes())
    with pytest.raises(MediaError, match="the picture changes from 32 x 32 to 64 x 64 pixels"):
        read_recording(both)


def test_stereo_stays_stereo(tmp_path):
    waveform = clicking(2)
    waveform[1] = 0
    write_clip(Clip(four_colours(), waveform, 25.0, 16000), tmp_path / "clip.mp4")
    again = read_clip(tmp_path / "clip.mp4").waveform
    assert again.shape == (2, 16000)
    assert again[0].abs().max() > 0.5
    assert again[1].abs().max() < 0.01


def test_scale_enlarges_pixel_by_pixel_and_odd_sides_become_even(tmp_path):
    clip = Clip(four_colours(5, 64)[:, :, :63, :61], clicking(n_samples=3200), 25.0, 16000)
    write_clip(clip, tmp_path / "odd.mp4")
    write_clip(clip, tmp_path / "large.mp4", scale=2)
    assert probe(tmp_path / "odd.mp4").size == (64, 62)
    assert probe(tmp_path / "large.mp4").size == (126, 122)


def test_metadata_says_that_a_clip_is_generated_unless_it_is_a_recording(tmp_path):
    clip = Clip(four_colours(3), clicking(n_samples=1920), 25.0, 16000)
    tags = {"prompt": "[VISUAL]: Ä", "seed": "7", "comment": "row a"}
    write_clip(clip, tmp_path / "made.mp4", metadata=tags)
    write_clip(clip, tmp_path / "real.mp4", generated=False)
    made = read_metadata(tmp_path / "made.mp4")
    assert made["comment"] == f"{AI_GENERATED_LABEL} row a"
    assert (made["prompt"], made["seed"]) == ("[VISUAL]: Ä", "7")
    assert "comment" not in read_metadata(tmp_path / "real.mp4")


def test_a_failed_write_leaves_the_older_file_and_nothing_else(tmp_path):
    clip = Clip(four_colours(3), clicking(n_samples=1920), 25.0, 16000)
    write_clip(clip, tmp_path / "clip.mp4")
    before = (tmp_path / "clip.mp4").read_bytes()
    with pytest.raises(MediaError, match=r"clip.mp4 cannot be written \(.*800 x 25600 pixels"):
        # H.264 refuses a side of more than 16384 pixels
        write_clip(Clip(clip.frames[:1, :, :2], clip.waveform, 25.0, 16000), tmp_path / "clip.mp4", scale=400)
    assert (tmp_path / "clip.mp4").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample_rate_hz": 15000}, "sample_rate_hz must be one of .*got 15000; resample first"),
        ({"waveform": torch.zeros(3, 1920)}, "waveform has 3 channels, mp4 holds 1 or 2; mix it down"),
        ({"frames": torch.zeros(0, 3, 8, 8, dtype=torch.uint8)}, "without frames or without samples"),
    ],
)
def test_what_mp4_cannot_hold_is_refused(tmp_path, change, message):
    values = {"frames": four_colours(3), "waveform": torch.zeros(1, 1920), "sample_rate_hz": 16000} | change
    with pytest.raises(ValueError, match=message):
        write_clip(Clip(frame_rate_fps=25.0, **values), tmp_path / "clip.mp4")


def test_a_clip_refuses_wrong_tensors():
    with pytest.raises(ValueError, match=r"frames must be uint8 \(F, 3, H, W\); got torch.float32"):
        Clip(torch.zeros(3, 3, 8, 8), torch.zeros(1, 10), 25.0, 16000)
    with pytest.raises(ValueError, match=r"waveform must be float32 \(channels, S\); got .* \(10,\)"):
        Clip(four_colours(3), torch.zeros(10), 25.0, 16000)


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("mov", "mpeg4"), ("mkv", "libx265"),
                                               ("webm", "libvpx-vp9"), ("mpg", "mpeg2video")])  # fmt: skip
def test_every_container_gives_its_frames_and_sound(tmp_path, suffix, codec):
    path = tmp_path / f"clip.{suffix}"
    levels = [60, 80, 100, 120, 140, 160, 180, 200, 210, 220]
    write_video(path, levels, 25, codec=codec)
    clip = read_clip(path)
    assert clip.frames.shape == (10, 3, 32, 32)
    assert clip.frame_rate_fps == 25.0
    assert clip.waveform.shape == (1, round(0.4 * clip.sample_rate_hz))
    # lossy codecs at their default quality: a few grey levels
    assert np.abs(clip.frames.float().mean((1, 2, 3)).numpy() - levels).max() < 6


@pytest.mark.parametrize("rate", [16, 24, 30, 50])
def test_conversion_to_25_fps_takes_the_frame_nearest_in_time(tmp_path, rate):
    levels = [20 + 4 * k for k in range(rate)]
    write_video(tmp_path / "clip.mkv", levels, rate, codec="ffv1")
    clip = read_clip(tmp_path / "clip.mkv", frame_rate_fps=25.0)
    # round half down: of two equally near frames the earlier one
    expected = [levels[min(math.ceil(k * rate / 25 - 0.5 - 1e-6), rate - 1)] for k in range(25)]
    # ffv1 loses nothing, colour conversion one level
    assert np.abs(clip.frames.float().mean((1, 2, 3)).numpy() - expected).max() <= 1.5


def test_a_late_start_reads_the_same_frames_and_samples(tmp_path):
    write_clip(Clip(four_colours(50), clicking(n_samples=32000), 25.0, 16000), tmp_path / "clip.mp4")
    whole = read_clip(tmp_path / "clip.mp4")
    part = read_clip(tmp_path / "clip.mp4", start_s=0.4, n_frames=20)
    assert torch.equal(part.frames, whole.frames[10:30])
    assert torch.equal(part.waveform, whole.waveform[:, 6400:19200])


def test_sound_that_starts_late_or_early_is_aligned_with_the_picture(tmp_path):
    for shift, expected in ((4000, CLICK_AT + 4000), (-2000, CLICK_AT - 2000)):
        path = tmp_path / f"shift{shift}.mkv"
        with av.open(str(path), "w") as container:
            video = container.add_stream("libx264", rate=25, width=32, height=32, pix_fmt="yuv420p")
            sound = container.add_stream("pcm_s16le", rate=16000, layout="mono")
            pcm = (clicking().numpy() * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, 8000 + shift
            container.mux(sound.encode(frame))
            for k in range(25):
                picture = av.VideoFrame(32, 32, "yuv420p")
                picture.pts = k + 12  # half a second, less one frame's half
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
        delay = round((0.5 - 12 / 25) * 16000)
        # mkv counts milliseconds
        assert abs(burst_position(read_clip(path).waveform) - (expected + delay)) <= 16


def test_a_rotated_video_comes_out_upright(tmp_path):
    frames = four_colours(3)
    write_clip(Clip(frames, clicking(n_samples=1920), 25.0, 16000), tmp_path / "clip.mp4")
    content = bytearray((tmp_path / "clip.mp4").read_bytes())
    # the 3x3 display matrix of the first track, 16.16 and 2.30 fixed point: a quarter turn clockwise
    at = content.index(b"tkhd") + 4 + 40
    content[at : at + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 64 * 65536, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(content)
    turned = read_clip(tmp_path / "turned.mp4", size=(64, 64)).frames
    plain = read_clip(tmp_path / "clip.mp4", size=(64, 64)).frames
    assert torch.equal(turned, plain.rot90(-1, (2, 3)))


def test_cover_and_crop_keep_the_centre(tmp_path):
    frames = torch.zeros(2, 3, 64, 128, dtype=torch.uint8)
    frames[:, 0, :, :32] = 255
    frames[:, 1, :, 32:96] = 255
    frames[:, 2, :, 96:] = 255
    write_clip(Clip(frames, clicking(n_samples=1280), 25.0, 16000), tmp_path / "wide.mp4")
    square = read_clip(tmp_path / "wide.mp4", size=(32, 32)).frames.float()
    assert square.shape == (2, 3, 32, 32)
    assert square[:, 1].mean() > 240
    assert square[:, [0, 2]].mean() < 15


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "m4a"])
def test_audio_files_keep_rate_channels_and_amplitude(tmp_path, suffix):
    path, tone = tmp_path / f"tone.{suffix}", 0.5 * np.sin(2 * np.pi * 440 * np.arange(24000) / 24000)
    pcm = (np.stack([tone, tone / 2], 1) * 32767).astype(np.int16)
    codec = {"wav": "pcm_s16le", "flac": "flac", "mp3": "libmp3lame", "m4a": "aac"}[suffix]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=24000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = 24000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    waveform, rate = read_audio(path)
    assert rate == 24000
    assert waveform.shape[0] == 2
    # lossy formats may keep up to a frame of padding
    assert abs(waveform.shape[1] - 24000) <= 2304
    left, right = waveform[:, 6000:18000].std(1)
    # mp3 at its default 128 kbit/s lowers this tone by 5 %
    assert left == pytest.approx(0.5 / math.sqrt(2), rel=0.06)
    assert right == pytest.approx(0.25 / math.sqrt(2), rel=0.06)


def test_wav_samples_are_exact_and_resampling_keeps_a_tone(tmp_path):
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(44100) / 44100) * 32767).astype(np.int16)
    write_wav(tmp_path / "tone.wav", np.stack([tone] * 6, 1), 44100)
    waveform, rate = read_audio(tmp_path / "tone.wav")
    assert (tuple(waveform.shape), rate) == ((6, 44100), 44100)
    assert torch.equal(waveform[0], torch.from_numpy(tone / 32768).float())
    waveform, rate = read_audio(tmp_path / "tone.wav", 16000)
    assert (tuple(waveform.shape), rate) == ((6, 16000), 16000)
    expected = 0.5 * torch.sin(2 * math.pi * 440 * torch.arange(16000) / 16000)
    assert (waveform[0] - expected)[500:-500].abs().max() < 1e-3


def test_images_are_read_upright_in_their_colours(tmp_path):
    image = four_colours(6)[5]
    for suffix, codec, pix_fmt in (("png", "png", "rgb24"), ("jpg", "mjpeg", "yuvj444p")):
        path = tmp_path / f"face.{suffix}"
        with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
            stream = container.add_stream(codec, width=64, height=64, pix_fmt=pix_fmt)
            frame = av.VideoFrame.from_ndarray(image.permute(1, 2, 0).numpy().copy(), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pix_fmt)))
            container.mux(stream.encode(None))
        again = read_image(path)
        assert again.shape == (3, 64, 64)
        assert (again.float() - image.float()).abs().mean() < 8, suffix
    assert torch.equal(read_image(tmp_path / "face.png"), image)
    assert read_image(tmp_path / "face.png", size=(32, 48)).shape == (3, 32, 48)


def test_a_file_that_is_missing_or_a_folder_is_named(tmp_path):
    with pytest.raises(MediaError, match=r"nowhere.mp4 does not exist; pass the path of one media file"):
        read_clip(tmp_path / "nowhere.mp4")
    with pytest.raises(MediaError, match=r"is a folder; pass the path of one media file"):
        read_audio(tmp_path)


def test_an_image_that_is_not_one_is_refused(tmp_path):
    (tmp_path / "face.png").write_text("not a picture at all")
    with pytest.raises(MediaError, match=r"face.png (cannot be decoded|is not an image).*; pass a"):
        read_image(tmp_path / "face.png")
    write_wav(tmp_path / "voice.wav", np.zeros((100, 1)), 16000)
    with pytest.raises(MediaError, match=r"voice.wav is not an image; pass a png or jpg"):
        read_image(tmp_path / "voice.wav")
    write_clip(Clip(four_colours(3), clicking(n_samples=1920), 25.0, 16000), tmp_path / "clip.mp4")
    with pytest.raises(MediaError, match=r"clip.mp4 is a video, not an image"):
        read_image(tmp_path / "clip.mp4")


def test_a_wav_without_samples_is_refused(tmp_path):
    write_wav(tmp_path / "empty.wav", np.zeros((0, 1)), 16000)
    with pytest.raises(MediaError, match=r"empty.wav has an audio stream without samples; record or"):
        read_audio(tmp_path / "empty.wav")


def test_a_video_without_sound_or_without_picture_is_refused(tmp_path):
    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=25, width=32, height=32, pix_fmt="yuv420p")
        container.mux(video.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(video.encode(None))
    with pytest.raises(MediaError, match=r"mute.mp4 has no audio stream; pass a file with sound"):
        read_clip(tmp_path / "mute.mp4")
    write_wav(tmp_path / "voice.wav", np.zeros((100, 1)), 16000)
    with pytest.raises(MediaError, match=r"voice.wav has no video stream; pass a video file"):
        read_clip(tmp_path / "voice.wav")


def test_a_video_without_frames_or_with_too_few_is_refused(tmp_path):
    write_clip(Clip(four_colours(10), clicking(n_samples=6400), 25.0, 16000), tmp_path / "clip.mp4")
    with pytest.raises(MediaError, match=r"has 10 frames at 25 fps from 0 s on, 33 were asked for; ask for 10"):
        read_clip(tmp_path / "clip.mp4", n_frames=33)
    with pytest.raises(MediaError, match=r"clip.mp4 has a video stream without frames from 9 s on"):
        read_clip(tmp_path / "clip.mp4", start_s=9.0)


def test_a_truncated_video_is_refused_with_its_name(tmp_path):
    write_clip(Clip(four_colours(10), clicking(n_samples=6400), 25.0, 16000), tmp_path / "clip.mp4")
    whole = (tmp_path / "clip.mp4").read_bytes()
    for n_bytes in (20, 400):
        (tmp_path / "half.mp4").write_bytes(whole[:n_bytes])
        with pytest.raises(MediaError, match=r"half.mp4 (cannot be decoded|has (no|a) video stream)"):
            read_clip(tmp_path / "half.mp4")


@needs_media
def test_a_grid_clip_gives_73_frames_and_their_sound():
    path = SHARED / "grid" / "s1" / "bbaf2n.mpg"
    assert probe(path).n_frames == 75
    clip = read_clip(path, frame_rate_fps=25.0, n_frames=73, size=(64, 64), sample_rate_hz=16000)
    assert clip.frames.shape == (73, 3, 64, 64)
    assert clip.waveform.shape == (2, 46720)
    assert clip.waveform.abs().max() > 0.01


@needs_media
@pytest.mark.slow
def test_a_portrait_hevc_video_at_30_fps_gives_121_frames():
    path = SHARED / "latentsync" / "demo3_video.mp4"
    clip = read_clip(path, frame_rate_fps=25.0, n_frames=121, size=(64, 64), sample_rate_hz=16000)
    late = read_clip(path, start_s=2.0, frame_rate_fps=25.0, n_frames=10, size=(64, 64), sample_rate_hz=16000)
    assert clip.frames.shape == (121, 3, 64, 64)
    assert clip.waveform.shape == (2, 77440)
    assert torch.equal(late.frames, clip.frames[50:60])
