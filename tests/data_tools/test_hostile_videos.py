"""Damaged and odd videos: each gives clips or a row with a reason, and nothing is written outside the output folder."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from data_tools.cut_clips import cut_clips
from data_tools.verb.lists import SUFFIXES, read_rows
from idlora_pl.media.clip import Clip
from tests.evaluation.hostile import write_hostile

ROOT = Path(__file__).parents[2]
REASONS = {"unreadable", "no_sound", "silent", "not_finite", "too_short"}


def talker() -> Clip:
    """33 frames of a moving square with a tone."""
    frames = torch.zeros(33, 3, 64, 64, dtype=torch.uint8)
    for k in range(33):
        frames[k, :, 8:40, k : k + 24] = 200
    seconds = torch.arange(21120) / 16000
    return Clip(frames, 0.3 * torch.sin(2 * torch.pi * 220 * seconds)[None], 25.0, 16000)


def more(folder: Path, write_odd, moving) -> Iterator[str]:
    """Write what only raw footage has; yield the names."""
    thirds = [round(k * 1000 / 3) for k in range(40)]
    write_odd(folder / "third_of_a_tick.mkv", moving(40), range(40), time_base=Fraction(1, 25))
    write_odd(folder / "slow_clock.mov", moving(40), thirds, time_base=Fraction(1, 9999), seconds=2)
    write_odd(
        folder / "fast_clock.mov",
        moving(40),
        [k * 40000 for k in range(40)],
        time_base=Fraction(1, 1000000),
        codec="libx264",
    )
    write_odd(folder / "days.mkv", moving(40), [k * 25 * 86400 for k in range(40)])
    write_odd(folder / "turned.mov", moving(40), range(40), rotation=90)
    write_odd(folder / "one_wide.mkv", moving(20, size=(16, 2000)), range(20))
    large = [np.full((4320, 7680, 3), 40 + 10 * (k % 3), np.uint8) for k in range(10)]
    write_odd(folder / "8k.mp4", large, range(10), codec="libx264", sound_codec="aac", seconds=0.4)
    sounds = (("mono", 16000, 300.0), ("5.1", 48000, 200.0), ("stereo", 44100, 250.0))
    write_odd(folder / "tracks.mkv", moving(40), range(40), sounds=sounds)
    yield from (
        "third_of_a_tick.mkv", "slow_clock.mov", "fast_clock.mov", "days.mkv", "turned.mov", "one_wide.mkv", "8k.mp4",
        "tracks.mkv",
    )  # fmt: skip


def cut_hostile(root: Path, write_odd, moving, *, every: int, workers: int) -> tuple[set[str], list[dict], list[dict]]:
    """Write and cut the set; return the names of the videos, the clips, and what was left out."""
    source, output = root / "videos", root / "cut"
    write_hostile(talker(), source, every=every)
    if every == 1:
        list(more(source, write_odd, moving))
    outside = root / "outside.mp4"
    outside.write_bytes(b"private")
    (source / "link.mp4").symlink_to(outside)
    names = {path.name for path in source.iterdir() if path.suffix in SUFFIXES and not path.is_dir()}
    before = {path for path in root.rglob("*") if output not in path.parents} | {output}
    cut_clips(
        str(source), str(output), size="32", frames=9, centre_crop=True, any_sound=True, workers=workers,
        clips_per_video=1,
    )  # fmt: skip
    assert {path for path in root.rglob("*") if output not in path.parents} == before
    clips = read_rows(output / "clips.jsonl", ["key", "source"])
    return names, clips, read_rows(output / "rejected.jsonl", ["source", "reason"])


def check(names: set[str], clips: list[dict], rejected: list[dict]) -> None:
    assert {row["source"] for row in clips} | {row["source"] for row in rejected} == names
    for row in rejected:
        assert row["reason"] in REASONS, row
        assert "Traceback" not in row["detail"]
        assert "\n" not in row["detail"]
    assert len({row["key"] for row in clips}) == len(clips)


def test_a_part_of_the_set(tmp_path, write_odd, moving):
    names, clips, rejected = cut_hostile(tmp_path, write_odd, moving, every=6, workers=1)
    assert len(names) >= 35
    check(names, clips, rejected)
    assert len(clips) >= 10
    assert {row["reason"] for row in rejected} >= {"unreadable", "too_short"}


@pytest.mark.slow
def test_a_full_disk_ends_in_one_sentence_and_leaves_no_half_clip(tmp_path, write_odd, moving):
    (tmp_path / "videos").mkdir()
    write_odd(tmp_path / "videos" / "a.mkv", moving(40), range(40))
    settings = ["--size", "64", "--frames", "9", "--centre_crop", "--any_sound", "--workers", "1"]
    command = [sys.executable, "-m", "data_tools.cut_clips", str(tmp_path / "videos"), str(tmp_path / "cut"), *settings]
    # no file may grow beyond 2 kB: what a full disk does to a writer
    full = f"ulimit -f 2; exec {shlex.join(command)}"
    found = subprocess.run(["bash", "-c", full], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 1, found.stderr
    assert "cannot be written" in found.stderr
    assert "make room and run the command again" in found.stderr
    assert "Traceback" not in found.stderr
    assert not list((tmp_path / "cut" / "clips").glob("*.mp4"))
    cut_clips(
        str(tmp_path / "videos"),
        str(tmp_path / "cut"),
        size="64",
        frames=9,
        centre_crop=True,
        any_sound=True,
        workers=1,
    )
    assert len(read_rows(tmp_path / "cut" / "clips.jsonl", ["key"])) == 4


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_set_in_two_processes(tmp_path, write_odd, moving):
    names, clips, rejected = cut_hostile(tmp_path, write_odd, moving, every=1, workers=2)
    assert len(names) >= 200
    check(names, clips, rejected)
    reasons = {row["source"]: row["reason"] for row in rejected}
    cut = {row["source"] for row in clips}
    assert {"fps_23.976.mp4", "webm.webm", "channels_6.mp4", "turned.mov", "tracks.mkv", "8k.mp4"} <= cut
    assert (reasons["empty.mp4"], reasons["no_audio.mp4"], reasons["silent.mp4"]) == (
        "unreadable",
        "no_sound",
        "silent",
    )
