"""How long cutting takes against decoding the same video with PyAV and nothing else.

    python -m pytest -m speed -s tests/data_tools/test_cutting_speed.py

Both run in this process, in turn, so that a busy machine slows both. With ../shared/media the videos are three of
1080 x 1920 pixels and every network looks at them; without it, one is made and cut at its centre.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from data_tools.cutting.video import Cut, Video, cut_video

SHARED = Path(__file__).parents[3] / "shared" / "media"
WEIGHTS = SHARED / "checkpoints"
N_TURNS = 5
pytestmark = pytest.mark.speed


def decoded(path: Path) -> None:
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for _ in container.decode(video=0):
            pass


def decoded_to_rgb(path: Path) -> None:
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            frame.to_ndarray(format="rgb24")


def cut(path: Path, output: Path, faces: bool) -> None:
    settings = Cut((512, 512), faces=WEIGHTS if faces else None, vad=WEIGHTS / "vad/silero_vad.onnx" if faces else None)
    rows = cut_video(Video(path, path.name, path.stem, output, {}, settings))
    assert any("reason" not in row for row in rows)


def seconds(work: Callable[[], None]) -> float:
    """CPU time, of all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(path: Path, output: Path, faces: bool) -> None:
    cut(path, output, faces)
    turns = []
    for _ in range(N_TURNS):
        plain = seconds(lambda: decoded(path))
        rgb = seconds(lambda: decoded_to_rgb(path))
        turns.append((seconds(lambda: cut(path, output, faces)), plain, rgb))
    for name, ratios in (
        ("decoding", [whole / plain for whole, plain, _ in turns]),
        ("decoding to RGB", [whole / rgb for whole, _, rgb in turns]),
    ):
        median, low, high = statistics.median(ratios), min(ratios), max(ratios)
        print(f"\n{path.name}: cutting takes {median:.2f} x {name} [{low:.2f}, {high:.2f}], {N_TURNS} turns", end="")
    assert statistics.median(whole / plain for whole, plain, _ in turns) < 8


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/media is not on this machine")
@pytest.mark.parametrize("name", ["demo1_video", "demo2_video", "demo3_video"])
def test_with_faces_and_speech_on_real_videos(name, tmp_path):
    compare(SHARED / "latentsync" / f"{name}.mp4", tmp_path, faces=True)


def test_without_networks_on_a_made_video(tmp_path, write_odd, moving):
    path = tmp_path / "made.mp4"
    pictures = moving(250, size=(1080, 1920))
    write_odd(path, pictures, range(250), codec="libx264", sound_codec="aac", seconds=10.0)
    compare(path, tmp_path, faces=False)
