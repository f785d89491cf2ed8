"""Videos become clips of 8k + 1 frames at 25 fps; what does not is listed with its reason."""

import re
from pathlib import Path

import pytest
import torch

from data_tools.cut_clips import Cut, RejectedError, Segment, cut_clips, parse_size, plan_segments
from data_tools.manifest import read_rows
from data_tools.videos import name_videos
from idlora_pl.media import MediaInfo, read_clip, read_metadata

SHARED = Path(__file__).parents[3] / "shared" / "media"
needs_media = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/media is not on this machine")
KEYS = ("key", "path", "source", "start_s", "n_frames", "duration_s", "speaker")


def info(duration_s: float, sample_rate_hz: int = 16000) -> MediaInfo:
    return MediaInfo(round(duration_s * 30), 30.0, duration_s, (32, 48), sample_rate_hz, 1)


def clips_of(folder: Path) -> dict[str, dict]:
    return {row["key"]: row for row in read_rows(folder / "clips.jsonl", KEYS)}


@pytest.mark.parametrize(
    ("duration_s", "n_frames", "expected"),
    [
        (3.0, None, [(0.0, 73)]),
        (4.84, None, [(0.0, 121)]),
        (20.0, None, [(0.0, 121), (4.84, 121), (9.68, 121), (14.52, 121)]),
        (3.0, 33, [(0.0, 33), (1.32, 33)]),
        (0.36, None, [(0.0, 9)]),
    ],
)
def test_clips_follow_each_other_in_the_longest_length_that_fits(duration_s, n_frames, expected):
    segments = plan_segments(info(duration_s), Cut((32, 32), n_frames))
    assert [(round(segment.start_s, 6), segment.n_frames) for segment in segments] == expected


def test_the_number_of_clips_of_one_video_can_be_limited():
    assert plan_segments(info(20.0), Cut((32, 32), clips_per_video=1)) == [Segment(0.0, 121)]


@pytest.mark.parametrize(
    ("found", "n_frames", "reason"),
    [(info(0.32), None, "too_short"), (info(3.0), 121, "too_short"), (info(3.0, sample_rate_hz=0), None, "no_sound")],
)
def test_a_video_that_gives_no_clip_has_a_reason(found, n_frames, reason):
    with pytest.raises(RejectedError) as rejected:
        plan_segments(found, Cut((32, 32), n_frames))
    assert rejected.value.reason == reason


def test_a_folder_of_videos_becomes_clips_and_a_list(videos, tmp_path):
    cut_clips(str(videos), str(tmp_path / "cut"), size="32")
    clips = clips_of(tmp_path / "cut")
    lengths = {row["source"]: row["n_frames"] for row in clips.values()}
    assert lengths == {"ann/a.mp4": 17, "ann/b c.mp4": 17, "bob/long.mp4": 49}
    assert {row["speaker"] for row in clips.values()} == {"ann", "bob"}
    for row in clips.values():
        path = tmp_path / "cut" / row["path"]
        clip = read_clip(path)
        assert clip.frames.shape == (row["n_frames"], 3, 32, 32)
        assert (clip.frame_rate_fps, clip.sample_rate_hz) == (25.0, 16000)
        assert clip.waveform.shape == (1, round(row["duration_s"] * 16000))
        assert "comment" not in read_metadata(path)


def test_clips_of_one_length_start_where_the_last_one_ended(videos, tmp_path):
    cut_clips(str(videos / "bob"), str(tmp_path / "cut"), size="32", frames=17)
    clips = clips_of(tmp_path / "cut")
    assert [row["start_s"] for row in clips.values()] == [0.0, 0.68]
    source = read_clip(videos / "bob" / "long.mp4", start_s=0.68, n_frames=17, size=(32, 32))
    second = read_clip(tmp_path / "cut" / clips["long-001"]["path"])
    # encoded again at crf 18; noise is the worst case
    assert (second.frames.float() - source.frames.float()).abs().mean() < 12
    assert (second.waveform - source.waveform).abs().mean() < 0.02


def test_everything_left_out_is_listed_with_its_reason(videos, tmp_path, write_video):
    (videos / "ann" / "broken.mp4").write_text("not a video")
    write_video(videos / "bob" / "silent.mp4", 20, loudness=0.0)
    cut_clips(str(videos), str(tmp_path / "cut"), size="32")
    rejected = read_rows(tmp_path / "cut" / "rejected.jsonl", ["source", "reason", "detail"])
    assert {row["source"]: row["reason"] for row in rejected} == {
        "ann/broken.mp4": "unreadable",
        "ann/short.mp4": "too_short",
        "bob/silent.mp4": "silent",
    }


def test_the_speaker_is_the_folder_the_file_or_nobody(videos, tmp_path):
    for speaker_from, expected in (("folder", "bob"), ("file", "long"), ("none", "")):
        output = tmp_path / speaker_from
        cut_clips(str(videos / "bob" / "long.mp4"), str(output), size="32", speaker_from=speaker_from)
        assert {row["speaker"] for row in clips_of(output).values()} == {expected}


def test_names_are_plain_short_and_never_shared():
    sources = ["s1/a.mpg", "s1/a.mov", "s1-a.mpg", "s1/ä b.mp4", "s1/ü b.mp4", "x" * 300, "x" * 301, "a.b.mp4", "é.mp4"]
    names = name_videos(sources)
    assert name_videos(["s1/a.mpg"]) == {"s1/a.mpg": "s1-a"}
    assert names["a.b.mp4"] == "a-b"
    assert len(set(names.values())) == len(sources)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name) for name in names.values())


def test_bad_input_is_refused(videos, tmp_path):
    output = str(tmp_path / "cut")
    with pytest.raises(ValueError, match=r"frames must be 8k \+ 1 .*; got 120"):
        cut_clips(str(videos), output, frames=120)
    with pytest.raises(ValueError, match=r"size must be a multiple of 32 such as 512, .*; got '500'"):
        cut_clips(str(videos), output, size="500")
    with pytest.raises(ValueError, match=r"nowhere does not exist; give a video file or a folder of videos"):
        cut_clips(str(tmp_path / "nowhere"), output)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no video \(.*\); give another folder"):
        cut_clips(str(tmp_path / "empty"), output)
    with pytest.raises(ValueError, match=r"no video gave a clip; .*rejected.jsonl has the reasons"):
        cut_clips(str(videos), output, size="32", frames=121)
    with pytest.raises(ValueError, match=r"clips.jsonl exists already; choose a new folder"):
        cut_clips(str(videos), output, size="32")


def test_sizes_are_one_number_or_two():
    assert parse_size("512") == (512, 512)
    assert parse_size("288x512") == (288, 512)
    for text in ("", "x", "32x", "32x32x32", "-32", "0", "64,64"):
        with pytest.raises(ValueError, match="size must be a multiple of 32"):
            parse_size(text)


@needs_media
def test_grid_clips_have_73_frames_with_their_sound(tmp_path):
    cut_clips(str(SHARED / "grid" / "s3"), str(tmp_path / "cut"), size="64")
    (row,) = clips_of(tmp_path / "cut").values()
    clip = read_clip(tmp_path / "cut" / row["path"])
    assert (row["n_frames"], row["speaker"]) == (73, "s3")
    assert (clip.frames.shape, clip.waveform.shape) == ((73, 3, 64, 64), (2, 46720))
    assert clip.waveform.abs().max() > 0.01


@needs_media
@pytest.mark.slow
def test_portrait_videos_at_25_and_30_fps_give_clips_of_121_frames(tmp_path):
    cut_clips(str(SHARED / "latentsync"), str(tmp_path / "cut"), size="64", speaker_from="file")
    clips = clips_of(tmp_path / "cut")
    assert {row["n_frames"] for row in clips.values()} == {121}
    assert len(clips) == 2 + 4 + 4
    clip = read_clip(tmp_path / "cut" / clips["demo3_video-003"]["path"])
    assert clip.frames.shape == (121, 3, 64, 64)
    assert torch.isfinite(clip.waveform).all()
