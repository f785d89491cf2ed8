"""A folder of damaged and odd clips, made from one good clip: what a benchmark meets sooner or later.

Files are named by what is wrong with them. The set is the same for every run with one seed.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from idlora_pl.media.clip import Clip
from idlora_pl.media.sound import at_rate

_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


@dataclass(frozen=True)
class Recipe:
    """How a file is encoded."""

    ending: str = "mp4"
    video: str | None = "libx264"
    audio: str | None = "aac"
    pixels: str = "yuv420p"
    options: tuple[tuple[str, str], ...] = ()
    frame_times: tuple[int, ...] | None = None
    audio_start_s: float = 0.0
    tracks: int = 1


def encoded(clip: Clip, recipe: Recipe, folder: Path) -> bytes:
    """Return the bytes of a file with the clip in it."""
    path = folder / f"making.{recipe.ending}"
    with av.open(str(path), "w", options=dict(recipe.options)) as container:
        video = _video_stream(container, clip, recipe) if recipe.video else None
        sounds = [_audio_stream(container, clip, recipe) for _ in range(recipe.tracks)] if recipe.audio else []
        if video is not None:
            for index, frame in enumerate(clip.frames):
                picture = VideoFrame.from_ndarray(frame.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
                picture.pts = index if recipe.frame_times is None else recipe.frame_times[index]
                if recipe.frame_times is not None:
                    picture.time_base = Fraction(1, 1000)
                container.mux(video.encode(picture.reformat(format=recipe.pixels)))
            container.mux(video.encode(None))
        for sound in sounds:
            _mux_sound(container, sound, clip, recipe)
    content = path.read_bytes()
    path.unlink()
    return content


def _video_stream(container, clip: Clip, recipe: Recipe):
    stream = container.add_stream(recipe.video, rate=Fraction(clip.frame_rate_fps).limit_denominator(1001))
    stream.height, stream.width = clip.frames.shape[-2:]
    stream.pix_fmt = recipe.pixels
    if recipe.frame_times is not None:
        stream.codec_context.time_base = Fraction(1, 1000)
    return stream


def _audio_stream(container, clip: Clip, recipe: Recipe):
    return container.add_stream(recipe.audio, rate=clip.sample_rate_hz, layout=_LAYOUTS[len(clip.waveform)])


def _mux_sound(container, stream, clip: Clip, recipe: Recipe) -> None:
    sound = AudioFrame.from_ndarray(clip.waveform.numpy().copy(), format="fltp", layout=_LAYOUTS[len(clip.waveform)])
    sound.sample_rate = clip.sample_rate_hz
    sound.pts = round(recipe.audio_start_s * clip.sample_rate_hz)
    to_codec = av.AudioResampler(stream.codec_context.format, stream.layout, stream.rate)
    for part in to_codec.resample(sound):
        container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def sized(clip: Clip, height: int, width: int) -> Clip:
    """Return the clip with frames of another size, by repeating pixels."""
    rows = torch.arange(height) * clip.frames.shape[2] // height
    columns = torch.arange(width) * clip.frames.shape[3] // width
    return replace(clip, frames=clip.frames[:, :, rows][..., columns])


def at_fps(clip: Clip, fps: float) -> Clip:
    """Return the clip at another frame rate, by repeating or leaving out frames."""
    n_frames = max(1, round(clip.duration_s * fps))
    chosen = (torch.arange(n_frames) * clip.frame_rate_fps / fps).long().clamp(max=len(clip.frames) - 1)
    return replace(clip, frames=clip.frames[chosen], frame_rate_fps=fps)


def at_hz(clip: Clip, hz: int, channels: int = 1) -> Clip:
    """Return the clip at another sample rate, its sound in every channel."""
    waveform, _ = at_rate(clip.waveform[:1], clip.sample_rate_hz, hz)
    return replace(clip, waveform=waveform.repeat(channels, 1), sample_rate_hz=hz)


def odd_clips(clip: Clip) -> Iterator[tuple[str, Clip, Recipe]]:
    """Yield (name, clip, recipe) of files that are whole but unusual."""
    plain, matroska = Recipe(), Recipe("mkv", audio="pcm_f32le")
    for fps in (10, 12.5, 15, 16, 23.976, 24, 25, 29.97, 30, 48, 50, 60):
        yield f"fps_{fps}", at_fps(clip, fps), plain
    for hz in (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 96000):
        yield f"hz_{hz}", at_hz(clip, hz), matroska
        yield f"aac_hz_{hz}", at_hz(clip, hz), plain
    for channels in (1, 2, 6):
        yield f"channels_{channels}", at_hz(clip, 48000, channels), plain
    for height, width in ((2, 2), (16, 16), (64, 4), (30, 34), (180, 320), (320, 180), (256, 256)):
        yield f"size_{height}x{width}", sized(clip, height, width), plain
    yield "size_odd_63x65", sized(clip, 63, 65), Recipe("mkv", video="ffv1", pixels="yuv444p")
    for n_frames in (1, 2, 3, 5):
        yield f"frames_{n_frames}", replace(clip, frames=clip.frames[:n_frames]), plain
    yield "frame_1_sound_short", replace(clip, frames=clip.frames[:1], waveform=clip.waveform[:, :640]), matroska
    for n_samples in (1, 160, 1600, 3199, 3200):
        yield f"samples_{n_samples}", replace(clip, waveform=clip.waveform[:, :n_samples]), matroska
    yield "sound_long", replace(clip, waveform=clip.waveform.repeat(1, 3)), plain
    yield "no_audio", clip, replace(plain, audio=None)
    yield "no_video", clip, replace(plain, video=None)
    for ending, codec in (("wav", "pcm_s16le"), ("flac", "flac"), ("mp3", "libmp3lame"), ("ogg", "libopus")):
        at_48 = at_hz(clip, 48000)
        yield f"only_sound_{ending}", at_48, Recipe(ending, video=None, audio=codec)
    yield "silent", replace(clip, waveform=torch.zeros_like(clip.waveform)), plain
    yield "constant_sound", replace(clip, waveform=torch.full_like(clip.waveform, 0.5)), matroska
    yield "clipped", replace(clip, waveform=(40 * clip.waveform).clamp(-1, 1)), plain
    yield "faint", replace(clip, waveform=3e-4 * clip.waveform), matroska
    for name, value in (("nan", float("nan")), ("inf", float("inf"))):
        broken = clip.waveform.clone()
        broken[:, 5000:5010] = value
        yield f"sound_{name}", replace(clip, waveform=broken), matroska
    for name, level in (("black", 0), ("grey", 128), ("white", 255)):
        yield f"faceless_{name}", replace(clip, frames=torch.full_like(clip.frames, level)), plain
    noise = torch.randint(0, 256, clip.frames.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    yield "faceless_noise", replace(clip, frames=noise), plain
    yield (
        "noise_in_both",
        replace(clip, frames=noise, waveform=(noise.float().flatten()[None, :21120] / 128 - 1)),
        plain,
    )
    yield from _containers(clip)


def _containers(clip: Clip) -> Iterator[tuple[str, Clip, Recipe]]:
    """Yield the clip in other containers and codecs, and with other clocks."""
    yield "webm", at_hz(clip, 48000), Recipe("webm", "libvpx-vp9", "libopus")
    yield "webm_vp8", at_hz(clip, 48000), Recipe("webm", "libvpx", "libopus")
    yield "mkv_mjpeg", clip, Recipe("mkv", "mjpeg", "flac", "yuvj420p")
    yield "avi_mpeg4", clip, Recipe("avi", "mpeg4", "pcm_s16le")
    yield "mov_mpeg4", clip, Recipe("mov", "mpeg4", "pcm_s16le")
    yield "mpg", at_hz(at_fps(clip, 25), 44100), Recipe("mpg", "mpeg2video", "mp2")
    yield "ts", at_hz(clip, 48000), Recipe("ts")
    yield "flv", at_hz(clip, 44100), Recipe("flv")
    yield "gif", clip, Recipe("gif", "gif", None, "rgb8")
    yield "mp4_fragmented", clip, Recipe(options=(("movflags", "frag_keyframe+empty_moov"),))
    yield "two_tracks", clip, Recipe("mkv", tracks=2)
    steady = np.arange(len(clip.frames)) * 40
    jitter = np.cumsum(np.random.default_rng(0).integers(5, 75, len(clip.frames)))
    gap = steady + 2000 * (np.arange(len(clip.frames)) >= 10)
    for name, times in (("steady", steady), ("jitter", jitter), ("gap", gap)):
        yield f"vfr_{name}", clip, Recipe("mkv", frame_times=tuple(int(t) for t in times))
    for start_s in (0.08, 0.5, 5.0):
        yield f"sound_starts_at_{start_s}", clip, Recipe("mkv", audio_start_s=start_s)


def damaged(name: str, good: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of a file that was cut, holed and scrambled."""
    for part in range(1, 16):
        cut = len(good) * part // 16
        yield f"{name}_cut_at_{cut}", good[:cut]
    for cut in (1, 4, 8, 100, len(good) - 1):
        yield f"{name}_cut_at_{cut}", good[:cut]
    for n_bytes in (1, 10, 100, 1000):
        for number in range(4):
            broken = bytearray(good)
            for place in rng.sample(range(len(good)), min(n_bytes, len(good))):
                broken[place] = rng.randrange(256)
            yield f"{name}_flipped_{n_bytes}_{number}", bytes(broken)
    for number in range(4):
        start = rng.randrange(len(good))
        yield f"{name}_hole_{number}", good[:start] + bytes(len(good) // 8) + good[start + len(good) // 8 :]
    yield f"{name}_swapped", good[len(good) // 2 :] + good[: len(good) // 2]
    yield f"{name}_doubled", good + good
    yield f"{name}_front_lost", good[200:]


def turned(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield an mp4 whose picture is to be shown turned, by the matrix of its first track."""
    at = good.index(b"tkhd") + 4 + 40
    one = 0x10000
    for degrees, (a, b, c, d) in {90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}.items():
        matrix = np.array([a, b, 0, c, d, 0, 0, 0, 0x40000000], ">i4").tobytes()
        yield f"turned_{degrees}", good[:at] + matrix + good[at + 36 :]


def no_clips(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield files that were never clips."""
    yield "empty", b""
    yield "one_byte", b"\0"
    yield "text", b"Access denied. Please log in.\n" * 20
    yield "html", b"<!doctype html><html><body>404</body></html>"
    yield "json", b'{"error": "quota"}'
    yield "zeros", bytes(20000)
    yield "random", rng.randbytes(20000)
    yield "lfs_pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    yield "png", b"\x89PNG\r\n\x1a\n" + rng.randbytes(500)


UNICODE = (
    "na\u00efve",
    "e\u0301tude",
    "\u8bdd\u8bed",
    "\U0001f600",
    "two words",
    "it's",
    'say "hi"',
    "a%20b",
    "#1",
    "-x",
)


def write_hostile(clip: Clip, folder: Path, *, every: int = 1) -> list[str]:
    """Write the set into a folder; return the names of the items.

    Args:
        clip: A good clip.
        folder: Where to.
        every: Keep only each so-manieth file.
    """
    folder.mkdir(parents=True)
    rng = random.Random(0)
    good = {
        "mp4": encoded(clip, Recipe(), folder),
        "faststart": encoded(clip, Recipe(options=(("movflags", "faststart"),)), folder),
        "mkv": encoded(clip, Recipe("mkv"), folder),
    }
    endings = {"faststart": "mp4"}
    files: list[tuple[str, str, bytes | tuple[Clip, Recipe]]] = [
        (name, endings.get(container, container), content)
        for container, whole in good.items()
        for name, content in damaged(container, whole, rng)
    ]
    files += [(name, "mp4", content) for name, content in (*turned(good["mp4"]), *no_clips(rng))]
    files += [(name, "mp4", good["mp4"]) for name in UNICODE]
    files += [(name, recipe.ending, (made, recipe)) for name, made, recipe in odd_clips(clip)]
    for name, ending, content in files[::every]:
        found = content if isinstance(content, bytes) else encoded(*content, folder)
        (folder / f"{name}.{ending}").write_bytes(found)
    (folder / "a_folder.mp4").mkdir()
    (folder / "dangling.mp4").symlink_to(folder / "nowhere")
    return [*(name for name, _, _ in files[::every]), "a_folder", "dangling", "never_made"]
