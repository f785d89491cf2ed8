"""Nano videos on disk: what is shown is what the truth says."""

import json

import pytest
import torch

from idlora_pl.media.reading import read_clip
from idlora_pl.nano import videos
from idlora_pl.nano.embedders import load_instruments
from idlora_pl.nano.render import render
from idlora_pl.nano.videos import plan_videos
from idlora_pl.nano.world import speaker


def test_videos_show_what_the_truth_says(tmp_path):
    videos.main([str(tmp_path), "--speakers", "1", "--clips", "4", "--clips-per-video", "2"])
    truth = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert [row["source"] for row in truth] == [f"s2000000/s2000000-{k:03d}.mp4" for k in range(2)]
    assert truth[0]["environment"] != truth[1]["environment"]
    hears = load_instruments()
    planned = plan_videos("validation", 1, 2, 2)
    for row, plan in zip(truth, planned, strict=True):
        clip = read_clip(tmp_path / row["source"])
        drawn = render([speaker(2_000_000)] * 2, plan.scripts).frames.flatten(0, 1)
        assert clip.frames.shape == (66, 3, 64, 64)
        assert (clip.frames.float() - drawn.float()).abs().mean() < 6  # h264 with halved colours
        assert hears.environment.classify(clip.waveform[:, :21120], 16000) == [row["environment"]]
        words = row["prompt"].split("[SPEECH]: ")[1].split(" [SOUNDS]")[0]
        assert hears.transcriber.transcribe(clip.waveform[:, :21120], 16000) == [words]


def test_no_two_clips_share_a_script():
    planned = plan_videos("test", 5, 9, 2) + plan_videos("validation", 5, 9, 2)
    seeds = [script.seed for video in planned for script in video.scripts]
    assert len(set(seeds)) == len(seeds) == 180
    environments = [[one.environment for one in video.scripts] for video in planned]
    assert all(len(set(places)) == 1 for places in environments)


def test_a_second_run_writes_what_is_missing_and_nothing_else(tmp_path):
    arguments = [str(tmp_path), "--speakers", "1", "--clips", "2"]
    videos.main(arguments)
    first, second = sorted(tmp_path.rglob("*.mp4"))
    whole = second.read_bytes()
    second.unlink()
    first.write_bytes(b"kept")
    torch.manual_seed(1)
    videos.main(arguments)
    assert (first.read_bytes(), second.read_bytes()) == (b"kept", whole)


def test_clips_that_do_not_fill_their_videos_are_refused(tmp_path):
    with pytest.raises(SystemExit, match="--clips 3 of --speakers 40 cannot be put into videos of --clips-per-video 2"):
        videos.main([str(tmp_path), "--clips", "3", "--clips-per-video", "2"])
