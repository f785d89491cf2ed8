"""Videos become clips of 8k + 1 frames at 25 fps; what does not is listed with its reason."""

import inspect
import os
import re
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from data_tools.cut_clips import cut_clips, parse_size
from data_tools.cutting.face_crop import load_faces
from data_tools.cutting.video import Cut, length_of
from data_tools.pair_clips import pair_clips
from data_tools.prepare import prepare_parser
from data_tools.verb.lists import SPEAKER_FROM, RejectedError, name_videos, read_clips, read_rows
from idlora_pl.media.reading import MediaInfo, read_audio, read_clip, read_metadata
from idlora_pl.scorers.face.mtcnn import detect

SHARED = Path(__file__).parents[3] / "shared" / "media"
needs_media = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/media is not on this machine")
PLAIN = {"centre_crop": True, "any_sound": True, "workers": 1}
KEYS = ("key", "path", "source", "start_s", "n_frames", "duration_s", "speaker")


def info(duration_s: float, sample_rate_hz: int = 16000) -> MediaInfo:
    return MediaInfo(round(duration_s * 30), 30.0, duration_s, (32, 48), sample_rate_hz, 1)


def clips_of(folder: Path) -> dict[str, dict]:
    return {row["key"]: row for row in read_rows(folder / "clips.jsonl", KEYS)}


@pytest.mark.parametrize(
    ("duration_s", "n_frames", "expected"),
    [(3.0, None, 73), (4.84, None, 121), (20.0, None, 121), (3.0, 33, 33), (0.36, None, 9)],
)
def test_clips_have_121_frames_or_the_longest_length_that_fits(duration_s, n_frames, expected):
    assert length_of(info(duration_s), Cut((32, 32), n_frames)) == expected


@pytest.mark.parametrize(
    ("found", "n_frames", "reason"),
    [(info(0.32), None, "too_short"), (info(3.0), 121, "too_short"), (info(3.0, sample_rate_hz=0), None, "no_sound")],
)
def test_a_video_that_gives_no_clip_has_a_reason(found, n_frames, reason):
    with pytest.raises(RejectedError) as rejected:
        length_of(found, Cut((32, 32), n_frames))
    assert rejected.value.reason == reason


def test_the_number_of_clips_of_one_video_can_be_limited(videos, tmp_path):
    cut_clips(str(videos / "bob"), str(tmp_path / "cut"), size="32", frames=9, clips_per_video=3, **PLAIN)
    assert [row["start_s"] for row in clips_of(tmp_path / "cut").values()] == [0.0, 0.36, 0.72]


def test_a_folder_of_videos_becomes_clips_and_a_list(videos, tmp_path):
    cut_clips(str(videos), str(tmp_path / "cut"), size="32", speaker_from="folder", **PLAIN)
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
    cut_clips(str(videos / "bob"), str(tmp_path / "cut"), size="32", frames=17, **PLAIN)
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
    cut_clips(str(videos), str(tmp_path / "cut"), size="32", **PLAIN)
    rejected = read_rows(tmp_path / "cut" / "rejected.jsonl", ["source", "reason", "detail"])
    assert {row["source"]: row["reason"] for row in rejected} == {
        "ann/broken.mp4": "unreadable",
        "ann/short.mp4": "too_short",
        "bob/silent.mp4": "silent",
    }


def test_the_speaker_is_the_folder_the_file_or_nobody(videos, tmp_path):
    for speaker_from, expected in (("folder", "bob"), ("file", "long"), ("none", "")):
        output = tmp_path / speaker_from
        cut_clips(str(videos / "bob" / "long.mp4"), str(output), size="32", speaker_from=speaker_from, **PLAIN)
        assert {row["speaker"] for row in clips_of(output).values()} == {expected}


@pytest.mark.parametrize("speaker_from", ["default", "folder", "none"])
def test_strangers_in_one_folder_do_not_become_one_person(videos, tmp_path, speaker_from, capsys, prompt):
    flat = tmp_path / "flat"
    flat.mkdir()
    for name in ("ann/a.mp4", "bob/long.mp4"):
        shutil.copy(videos / name, flat)
    said = {} if speaker_from == "default" else {"speaker_from": speaker_from}
    cut_clips(str(flat), str(tmp_path / "cut"), size="32", frames=17, **said, **PLAIN)
    assert {row["speaker"] for row in clips_of(tmp_path / "cut").values()} == {""}
    assert "3 clips name no speaker" in capsys.readouterr().out
    listed, pairs = str(tmp_path / "cut" / "clips.jsonl"), tmp_path / "pairs.jsonl"
    with pytest.raises(ValueError, match="no clip could be paired; .*; 3 clips name no speaker: run find_speakers"):
        pair_clips(listed, str(pairs), prompt=prompt)
    # within one video the video stands for the person, which is said
    pair_clips(listed, str(pairs), rule="same_video", prompt=prompt)
    assert {(row["speaker"], row["reference_source"]) for row in read_rows(pairs, ["key"])} == {
        ("video long.mp4", "long.mp4")
    }
    assert "with same_video, each of their videos counts as one person" in capsys.readouterr().out


def test_all_tools_have_one_default_of_who_talks():
    assert prepare_parser().get_defaults().cut_clips.speaker_from == SPEAKER_FROM
    assert inspect.signature(cut_clips).parameters["speaker_from"].default == SPEAKER_FROM
    found = {row["source"]: row["folder"] for row in read_clips(SHARED / "grid")[0]} if SHARED.is_dir() else {}
    assert all(folder == source.split("/")[0] for source, folder in found.items())


def test_the_folder_that_is_searched_names_nobody(tmp_path, monkeypatch):
    (tmp_path / "raw" / "ann").mkdir(parents=True)
    for name in ("a.wav", "ann/b.wav"):
        (tmp_path / "raw" / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path / "raw")
    (tmp_path / "link").symlink_to(tmp_path / "raw")
    for source in (tmp_path / "raw", Path("."), Path("../raw"), tmp_path / "link"):
        assert {row["source"]: row["folder"] for row in read_clips(source)[0]} == {"a.wav": "", "ann/b.wav": "ann"}


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
        cut_clips(str(videos), output, frames=120, **PLAIN)
    with pytest.raises(ValueError, match=r"size must be a multiple of 32 such as 512, .*; got '500'"):
        cut_clips(str(videos), output, size="500", **PLAIN)
    with pytest.raises(ValueError, match=r"nowhere does not exist; give a video file or a folder of videos"):
        cut_clips(str(tmp_path / "nowhere"), output, **PLAIN)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no video \(.*\); give another folder"):
        cut_clips(str(tmp_path / "empty"), output, **PLAIN)
    with pytest.raises(ValueError, match=r"no video gave a clip; .*rejected.jsonl has the reasons"):
        cut_clips(str(videos), output, size="32", frames=121, **PLAIN)
    with pytest.raises(ValueError, match=r"cut was begun with n_frames 121, now it is 17; choose a new folder or"):
        cut_clips(str(videos), output, size="32", frames=17, **PLAIN)
    with pytest.raises(ValueError, match=r"give --faces WEIGHTS to look for faces, or --centre_crop .*; got neither"):
        cut_clips(str(videos), output, any_sound=True)
    with pytest.raises(ValueError, match=r"give --vad WEIGHTS to look for speech, or --any_sound .*; got both"):
        cut_clips(str(videos), output, centre_crop=True, any_sound=True, vad="x")
    with pytest.raises(ValueError, match=r"face/mtcnn_pnet.pt does not exist; give a folder with"):
        cut_clips(str(videos), output, faces=str(tmp_path), any_sound=True)
    with pytest.raises(ValueError, match=r"silero_vad.onnx does not exist; give silero_vad.onnx or a folder"):
        cut_clips(str(videos), output, centre_crop=True, vad=str(tmp_path))
    with pytest.raises(ValueError, match=r"frame_rate must be 1 to 240 frames per second; got 0"):
        cut_clips(str(videos), output, frame_rate=0, **PLAIN)


def test_sizes_are_one_number_or_two():
    assert parse_size("512") == (512, 512)
    assert parse_size("288x512") == (288, 512)
    for text in ("", "x", "32x", "32x32x32", "-32", "0", "64,64"):
        with pytest.raises(ValueError, match="size must be a multiple of 32"):
            parse_size(text)


@needs_media
def test_grid_clips_have_73_frames_with_their_sound(tmp_path):
    cut_clips(str(SHARED / "grid" / "s3"), str(tmp_path / "cut"), size="64", speaker_from="file", **PLAIN)
    (row,) = clips_of(tmp_path / "cut").values()
    clip = read_clip(tmp_path / "cut" / row["path"])
    assert (row["n_frames"], row["speaker"]) == (73, Path(row["source"]).stem)
    assert (clip.frames.shape, clip.waveform.shape) == ((73, 3, 64, 64), (2, 46720))
    assert clip.waveform.abs().max() > 0.01


@needs_media
@pytest.mark.slow
def test_portrait_videos_at_25_and_30_fps_give_clips_of_121_frames(tmp_path):
    cut_clips(str(SHARED / "latentsync"), str(tmp_path / "cut"), size="64", speaker_from="file", **PLAIN)
    clips = clips_of(tmp_path / "cut")
    assert {row["n_frames"] for row in clips.values()} == {121}
    assert len(clips) == 2 + 4 + 4
    clip = read_clip(tmp_path / "cut" / clips["demo3_video-003"]["path"])
    assert clip.frames.shape == (121, 3, 64, 64)
    assert torch.isfinite(clip.waveform).all()


def test_no_clip_goes_across_a_scene_cut(tmp_path, write_odd, moving):
    source = tmp_path / "v"
    source.mkdir()
    scenes = moving(30) + moving(20, brightness=170, seed=1) + moving(12, brightness=20, seed=2)
    write_odd(source / "a.mov", scenes, range(62), seconds=2.5)
    cut_clips(str(source), str(tmp_path / "cut"), size="32", frames=17, **PLAIN)
    clips = clips_of(tmp_path / "cut")
    assert [row["start_s"] for row in clips.values()] == [0.0, 1.2]
    for row in clips.values():
        brightness = read_clip(tmp_path / "cut" / row["path"]).frames.float().mean((1, 2, 3))
        assert brightness.max() - brightness.min() < 20
    (left,) = read_rows(tmp_path / "cut" / "rejected.jsonl", KEYS[2:4])
    assert (left["reason"], left["start_s"], left["detail"]) == (
        "too_short",
        2.0,
        "a scene of 12 frames, 17 are needed",
    )


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.mkv", {}),
        ("a.mov", {"sounds": (("mono", 22050, 300.0),)}),
        ("a.avi", {"sounds": (("stereo", 44100, 300.0),)}),
        ("a.webm", {"codec": "libvpx", "sound_codec": "libopus", "sounds": (("stereo", 48000, 300.0),)}),
        ("a.mp4", {"sound_codec": "aac", "sounds": (("5.1", 48000, 300.0),)}),
        ("b.mkv", {"sounds": (("mono", 8000, 300.0), ("mono", 48000, 1000.0))}),
    ],
)
def test_any_container_and_any_sound_gives_a_clip_and_keeps_its_own_rate(tmp_path, write_odd, moving, name, settings):
    source = tmp_path / "v"
    source.mkdir()
    write_odd(source / name, moving(30, size=(46, 66)), range(30), **settings)
    cut_clips(str(source), str(tmp_path / "cut"), size="32", frames=25, **PLAIN)
    (row,) = clips_of(tmp_path / "cut").values()
    clip = read_clip(tmp_path / "cut" / row["path"])
    sound, rate_hz = read_audio(tmp_path / "cut" / row["sound"])
    assert (clip.frames.shape, clip.sample_rate_hz, clip.waveform.shape[1]) == ((25, 3, 32, 32), 16000, 16000)
    assert (rate_hz, sound.shape[1]) == (row["sound_rate_hz"], row["sound_rate_hz"])
    assert rate_hz in [rate for _, rate, _ in settings.get("sounds", [("", 16000, 0)])]
    assert len(sound) <= 2
    middle = sound[0, rate_hz // 4 : rate_hz * 3 // 4]
    assert 0.1 < middle.abs().max() < 0.6
    loudest_hz = 2 * int(torch.fft.rfft(middle).abs().argmax())
    assert loudest_hz in [pitch for _, _, pitch in settings.get("sounds", [("", 0, 300)])]


def test_a_variable_frame_rate_is_made_even(tmp_path, write_odd, moving):
    source = tmp_path / "v"
    source.mkdir()
    pictures = moving(40)
    times = [k * 20 for k in range(20)] + [400 + k * 60 for k in range(20)]
    write_odd(source / "a.mkv", pictures, times, time_base=Fraction(1, 1000))
    cut_clips(str(source), str(tmp_path / "cut"), size="32", frames=33, **PLAIN)
    (row,) = clips_of(tmp_path / "cut").values()
    whole = read_clip(source / "a.mkv", frame_rate_fps=25.0, n_frames=33, size=(32, 32))
    made = read_clip(tmp_path / "cut" / row["path"])
    assert (made.frames.float() - whole.frames.float()).abs().mean() < 6


def test_a_turned_video_is_cut_upright(tmp_path, write_odd, moving):
    source = tmp_path / "v"
    source.mkdir()
    write_odd(source / "a.mp4", moving(12, size=(48, 80)), range(12), sound_codec="aac", rotation=90)
    cut_clips(str(source), str(tmp_path / "cut"), size="64x32", frames=9, **PLAIN)
    (row,) = clips_of(tmp_path / "cut").values()
    whole = read_clip(source / "a.mp4", n_frames=9, size=(64, 32))
    made = read_clip(tmp_path / "cut" / row["path"])
    assert (made.frames.float() - whole.frames.float()).abs().mean() < 6
    assert read_clip(source / "a.mp4").frames.shape[2:] == (80, 48)


def test_a_gap_in_the_times_ends_a_scene(tmp_path, write_odd, moving):
    source = tmp_path / "v"
    source.mkdir()
    times = [*range(20), *range(20_000, 20_020)]
    write_odd(source / "a.mkv", moving(40), times, seconds=3.0)
    cut_clips(str(source), str(tmp_path / "cut"), size="32", frames=17, **PLAIN)
    assert [row["start_s"] for row in clips_of(tmp_path / "cut").values()] == [0.0]
    (left,) = read_rows(tmp_path / "cut" / "rejected.jsonl", KEYS[2:4])
    assert (left["reason"], left["start_s"]) == ("silent", 800.0)


@pytest.mark.parametrize("n_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_interrupted_run_gives_the_files_of_an_uninterrupted_one(videos, tmp_path, tree, n_workers):
    (videos / "ann" / "broken.mp4").write_text("not a video")
    settings = {"size": "32"} | PLAIN | {"workers": n_workers}
    cut_clips(str(videos), str(tmp_path / "whole"), **settings)
    cut_clips(str(videos), str(tmp_path / "cut"), **settings)
    clip = next((tmp_path / "cut" / "clips").glob("bob*.mp4"))
    kept = next((tmp_path / "cut" / "clips").glob("ann-a*.mp4")).stat().st_mtime_ns
    clip.unlink()
    (tmp_path / "cut" / ".cut_clips" / "of-bob-long.json").unlink()
    (tmp_path / "cut" / "clips.jsonl").unlink()
    clip.with_name(".x.1.partial.mp4").write_text("half")
    cut_clips(str(videos), str(tmp_path / "cut"), **settings)
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")
    assert next((tmp_path / "cut" / "clips").glob("ann-a*.mp4")).stat().st_mtime_ns == kept


def test_consent_is_that_of_the_speaker(videos, tmp_path):
    (tmp_path / "agreed.json").write_text('{"bob": "signed"}')
    settings = {"speaker_from": "folder", "consent": "public benchmark", "consents": str(tmp_path / "agreed.json")}
    cut_clips(str(videos), str(tmp_path / "cut"), size="32", **settings, **PLAIN)
    found = {row["speaker"]: row["consent"] for row in clips_of(tmp_path / "cut").values()}
    assert found == {"ann": "public benchmark", "bob": "signed"}
    (tmp_path / "agreed.json").write_text('{"bob": "he nodded"}')
    with pytest.raises(ValueError, match=r"speaker bob has consent 'he nodded'; write one of public benchmark, own"):
        cut_clips(str(videos), str(tmp_path / "cut"), size="32", **settings, **PLAIN)


@needs_media
def test_a_real_face_is_in_the_middle_of_its_clip_and_a_clip_without_one_is_refused(tmp_path, write_odd, moving):
    source = tmp_path / "v"
    source.mkdir()
    (source / "s3.mpg").symlink_to(next((SHARED / "grid" / "s3").glob("*.mpg")))
    write_odd(source / "none.mkv", moving(40), range(40))
    weights = str(SHARED / "checkpoints")
    cut_clips(str(source), str(tmp_path / "cut"), size="224", frames=33, faces=weights, any_sound=True, workers=1)
    clips = clips_of(tmp_path / "cut")
    assert {row["source"] for row in clips.values()} == {"s3.mpg"}
    networks = load_faces(Path(weights))
    for row in clips.values():
        first = detect(networks, read_clip(tmp_path / "cut" / row["path"], n_frames=1).frames)[0]
        centre = (first.boxes[0, :2] + first.boxes[0, 2:]) / 2
        assert ((centre - 112).abs() < 30).all()
    rejected = read_rows(tmp_path / "cut" / "rejected.jsonl", KEYS[2:4])
    assert {(row["source"], row["reason"]) for row in rejected} == {("none.mkv", "no_face")}


@needs_media
def test_two_faces_side_by_side_are_refused(tmp_path, write_odd):
    source = tmp_path / "v"
    source.mkdir()
    clip = read_clip(next((SHARED / "grid" / "s3").glob("*.mpg")), n_frames=33)
    face = clip.frames[:, :, 20:276, 65:215].permute(0, 2, 3, 1).numpy()
    write_odd(source / "two.mkv", list(np.concatenate([face, face], 2)), range(33), codec="libx264")
    with pytest.raises(ValueError, match="no video gave a clip"):
        cut_clips(
            str(source), str(tmp_path / "cut"), size="224", faces=str(SHARED / "checkpoints"), any_sound=True, workers=1
        )
    (row,) = read_rows(tmp_path / "cut" / "rejected.jsonl", KEYS[2:4])
    assert row["reason"] == "several_faces"


@needs_media
def test_speech_passes_and_a_tone_is_no_speech(tmp_path, videos):
    (videos / "bob" / "talk.mpg").symlink_to(next((SHARED / "grid" / "s3").glob("*.mpg")))
    vad = str(SHARED / "checkpoints")
    cut_clips(str(videos / "bob"), str(tmp_path / "cut"), size="32", frames=49, centre_crop=True, vad=vad, workers=1)
    (row,) = clips_of(tmp_path / "cut").values()
    assert row["source"] == "talk.mpg"
    assert 0.6 < row["speech_s"] < 1.96
    (left,) = read_rows(tmp_path / "cut" / "rejected.jsonl", KEYS[2:4])
    assert (left["source"], left["reason"]) == ("long.mp4", "no_speech")


def test_a_clip_that_was_deleted_is_cut_again(videos, tmp_path):
    for _ in range(2):
        cut_clips(str(videos), str(tmp_path / "cut"), size="32", **PLAIN)
        first = next((tmp_path / "cut" / "clips").glob("*.mp4"))
        first.unlink()
    cut_clips(str(videos), str(tmp_path / "cut"), size="32", **PLAIN)
    assert all((tmp_path / "cut" / row["path"]).is_file() for row in clips_of(tmp_path / "cut").values())


def test_videos_of_any_name_are_cut_or_listed(videos, tmp_path):
    good = (videos / "ann" / "a.mp4").read_bytes()
    (videos / "settings.mp4").write_bytes(good)
    (videos / os.fsdecode(b"bad\xff.mp4")).write_bytes(good)
    for _ in range(2):
        cut_clips(str(videos), str(tmp_path / "cut"), size="32", **PLAIN)
        assert "settings" in {row["source"].removesuffix(".mp4") for row in clips_of(tmp_path / "cut").values()}
        rejected = read_rows(tmp_path / "cut" / "rejected.jsonl", ["source", "reason"])
        assert ("bad\\xff.mp4", "bad_name") in {(row["source"], row["reason"]) for row in rejected}


def test_consent_is_told_of_videos_folders_and_speakers_and_of_nobody_else(videos, tmp_path):
    agreed = tmp_path / "agreed.json"
    agreed.write_text('{"ann": "signed", "ann/a.mp4": "public benchmark"}')
    settings = {"speaker_from": "none", "consent": "own recording", "consents": str(agreed)}
    cut_clips(str(videos), str(tmp_path / "cut"), size="32", **settings, **PLAIN)
    found = {row["source"]: row["consent"] for row in clips_of(tmp_path / "cut").values()}
    expected = {"ann/a.mp4": "public benchmark", "ann/b c.mp4": "signed", "bob/long.mp4": "own recording"}
    assert found == expected
    agreed.write_text('{"anne": "unknown"}')
    with pytest.raises(ValueError, match=r"agreed.json names 'anne', which is no video, folder or speaker here"):
        cut_clips(str(videos), str(tmp_path / "cut"), size="32", **settings, **PLAIN)
