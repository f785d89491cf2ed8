"""Small real videos, moving noise with a tone, written as mp4; and small data in the authors' layout."""

import io
import json
import math
import shutil
import tarfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from data_tools.released.source import zstd
from idlora_pl.data.samples import PairSample
from idlora_pl.data.stream import open_shards
from idlora_pl.media.clip import Clip
from idlora_pl.media.writing import write_clip

PROMPT = "[VISUAL]: Noise. [SPEECH]: Hello there. [SOUNDS]: A tone."


def noise_video(
    path: Path, n_frames: int, *, seed: int = 0, frame_rate_fps: float = 25.0, loudness: float = 0.3
) -> None:
    """Write a 48x32 video of noise with a 200 Hz tone as long as the picture."""
    rng = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (n_frames, 3, 32, 48), generator=rng, dtype=torch.uint8)
    seconds = torch.arange(round(n_frames / frame_rate_fps * 16000)) / 16000
    tone = loudness * torch.sin(2 * math.pi * (200 + 10 * seed) * seconds)
    write_clip(Clip(frames, tone[None], frame_rate_fps, 16000), path, generated=False)


@pytest.fixture
def write_video() -> Callable[..., None]:
    """`noise_video`."""
    return noise_video


def odd_video(
    path: Path,
    pictures: Sequence[np.ndarray],
    times: Sequence[int],
    *,
    time_base: Fraction = Fraction(1, 25),
    sounds: Sequence[tuple[str, int, float]] = (("mono", 16000, 300.0),),
    codec: str = "mpeg4",
    sound_codec: str = "pcm_s16le",
    seconds: float = 2.0,
    rotation: int = 0,
) -> None:
    """Write a video of any container: pictures (H, W, 3) at times in `time_base`, tracks (layout, rate, pitch)."""
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = time_base
        video.bit_rate = 4_000_000
        if rotation:
            video.set_display_rotation(rotation)
        tracks = [container.add_stream(sound_codec, rate=rate, layout=layout) for layout, rate, _ in sounds]
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for track, (layout, rate, pitch) in zip(tracks, sounds, strict=True):
            tone = 0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)
            n_channels = len(av.AudioLayout(layout).channels)
            for at in range(0, len(tone), 1024):
                part = np.tile(tone[None, at : at + 1024], (n_channels, 1)).astype(np.float32)
                frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
                container.mux(track.encode(frame))
            container.mux(track.encode(None))


def shaded(n: int, *, brightness: int = 60, size: tuple[int, int] = (48, 64), seed: int = 0) -> list[np.ndarray]:
    """Pictures of a bright square that moves over a shaded ground with grain."""
    rng = np.random.default_rng(seed)
    height, width = size
    pictures = []
    for k in range(n):
        ground = np.full((height, width, 3), brightness) + np.arange(width)[None, :, None] // 2
        ground[8:24, k % (width - 16) : k % (width - 16) + 16] += 60
        pictures.append((ground + rng.integers(0, 8, ground.shape)).clip(0, 255).astype(np.uint8))
    return pictures


@pytest.fixture
def write_odd() -> Callable[..., None]:
    """`odd_video`."""
    return odd_video


@pytest.fixture
def moving() -> Callable[..., list[np.ndarray]]:
    """`shaded`."""
    return shaded


@pytest.fixture(scope="session")
def kept_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speakers: ann with videos of 20, 19 and 5 frames, bob with one of 50; tests must leave them as they are."""
    folder = tmp_path_factory.mktemp("kept") / "videos"
    for name, n_frames, seed in (("ann/a", 20, 0), ("ann/b c", 19, 1), ("ann/short", 5, 2), ("bob/long", 50, 3)):
        noise_video(folder / f"{name}.mp4", n_frames, seed=seed)
    return folder


@pytest.fixture
def videos(kept_videos: Path, tmp_path: Path) -> Path:
    """A copy of `kept_videos`."""
    return shutil.copytree(kept_videos, tmp_path / "videos")


@pytest.fixture
def prompt() -> str:
    """A prompt with its three sections."""
    return PROMPT


def released_files(
    seed: int,
    *,
    n_target: int = 17,
    n_reference: int = 18,
    grid: tuple[int, int, int] = (3, 2, 2),
    widths: tuple[int, ...] = (24,),
    n_text: int = 8,
) -> dict[str, dict[str, Any]]:
    """The four dicts of one item as the authors' tools store them; by default of a size that the smoke model takes."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng)

    def sound(n_tokens: int) -> dict[str, Any]:
        numbers = {"num_time_steps": n_tokens, "frequency_bins": 16, "duration": 0.04 * n_tokens}
        return {"latents": normal(8, n_tokens, 16)} | numbers

    keys = ("prompt_embeds",) if len(widths) == 1 else ("video_prompt_embeds", "audio_prompt_embeds")
    text: dict[str, Any] = {key: normal(n_text, width).bfloat16() for key, width in zip(keys, widths, strict=True)}
    sizes = dict(zip(("num_frames", "height", "width"), grid, strict=True))
    return {
        "latents": {"latents": normal(128, *grid).bfloat16(), "fps": 25.0, "_file_path": f"/data/{seed}.pt"} | sizes,
        "audio_latents": sound(n_target),
        "audio_latents_clean": sound(n_reference),
        "conditions": text | {"prompt_attention_mask": (torch.arange(n_text) >= n_text // 2).long()},
    }


def save_released(root: Path, name: str, files: dict[str, Any]) -> None:
    """Save the files of one item in the authors' layout."""
    for folder, content in files.items():
        path = root / folder / f"{name}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, path)


def write_archive(path: Path, root: Path, folders: Sequence[str], *, backwards: bool = False) -> None:
    """Pack folders of the layout into one .tar.zst."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for folder in folders:
            for file in sorted((root / folder).rglob("*.pt"), reverse=backwards):
                tar.add(file, file.relative_to(root).as_posix())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zstd.compress(stream.getvalue()))


@pytest.fixture
def make_files() -> Callable[..., dict[str, Any]]:
    """`released_files`."""
    return released_files


@pytest.fixture
def save_item() -> Callable[..., None]:
    """`save_released`."""
    return save_released


@pytest.fixture
def pack() -> Callable[..., None]:
    """`write_archive`."""
    return write_archive


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """Ten items of two speakers in the layout of the released archives, targets of 16 to 18 tokens, with metadata."""
    root = tmp_path / "released"
    rows = []
    for k in range(10):
        name = f"speaker_{k % 2}/clip{k}"
        save_released(root, name, released_files(k, n_target=16 + k % 3, n_reference=17 + k % 2))
        row = {"media_path": f"videos/{name}.mp4", "caption": f"{PROMPT} {k}", "speaker": f"speaker_{k % 2}"}
        rows.append(row | {"reference_path": f"videos/{name}-voice.mp4"})
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture
def read_set() -> Callable[[Path], dict[str, PairSample]]:
    """Read all samples of a shard set by the name of their item."""

    def read(folder: Path) -> dict[str, PairSample]:
        found = open_shards(str(folder))
        refs = [(shard, k) for shard, count in enumerate(found.index.counts) for k in range(count)]
        return {sample.meta["source"]: sample for _, sample in found.read(refs)}

    return read


@pytest.fixture
def tree() -> Callable[[Path], dict[str, bytes]]:
    """Read all files of a folder."""

    def read(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read
