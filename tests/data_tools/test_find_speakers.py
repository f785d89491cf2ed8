"""Speakers of nano videos are found, labels stay, hostile files have a reason, and a second run embeds nothing."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from data_tools import find_speakers as tool
from data_tools.cut_clips import cut_clips
from data_tools.find_speakers import find_speakers
from data_tools.speakers import remembered
from data_tools.speakers.embedders import NanoFaceEmbedder
from data_tools.verb.lists import read_rows, write_rows
from idlora_pl.media.writing import write_audio
from idlora_pl.nano import corpus, videos, world
from idlora_pl.nano.render import render
from idlora_pl.scorers.weights import Unavailable

NANO = {"voice": "nano_speaker", "face": "none", "workers": 1}
KEYS = ("key", "path", "source", "speaker")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano")
    videos.main([str(folder / "videos"), "--speakers", "4", "--clips", "4"])
    cut_clips(
        str(folder / "videos"),
        str(folder / "cut"),
        size="64",
        speaker_from="folder",
        centre_crop=True,
        any_sound=True,
        workers=1,
    )
    return folder / "cut" / "clips.jsonl"


def found(folder):
    return json.loads((folder / "speakers.json").read_text())


def test_speakers_of_nano_videos_are_found(clips, tmp_path, capsys):
    find_speakers(str(clips), str(tmp_path), labels="none", truth="speaker", **NANO)
    rows = read_rows(tmp_path / "clips.jsonl", KEYS)
    assert [row["speaker"] for row in rows] == [f"speaker-{k:04d}" for k in (1, 2, 3, 4) for _ in range(4)]
    assert all((tmp_path / row["path"]).is_file() for row in rows)
    assert found(tmp_path)["truth"] == {
        **dict.fromkeys(("precision", "recall", "f1"), 1.0),
        **{"n_clips": 16, "n_found": 4, "n_true": 4},
    }
    assert "4 speakers found of 4" in capsys.readouterr().out.replace("\n", "")
    first = found(tmp_path)["speakers"]["speaker-0001"]
    assert first["clips"] == [row["key"] for row in rows[:4]]
    assert first["margin"] > 0.5


@pytest.mark.slow
def test_two_processes_find_the_same(clips, tmp_path):
    for name, workers in (("one", 1), ("two", 2)):
        find_speakers(str(clips), str(tmp_path / name), labels="none", **NANO | {"workers": workers})
    assert (tmp_path / "one/speakers.json").read_text() == (tmp_path / "two/speakers.json").read_text()


def test_labels_are_kept_and_contradictions_listed(clips, tmp_path):
    rows = read_rows(clips, KEYS)
    wrong = {rows[0]["key"]: "ann", rows[4]["source"]: "ann", rows[5]["key"]: "bob"}
    (tmp_path / "labels.json").write_text(json.dumps(wrong))
    find_speakers(str(clips), str(tmp_path / "out"), labels=str(tmp_path / "labels.json"), **NANO)
    named = {row["key"]: row["speaker"] for row in read_rows(tmp_path / "out/clips.jsonl", KEYS)}
    assert [named[rows[k]["key"]] for k in (0, 4, 5)] == ["ann", "ann", "bob"]
    kinds = {(row["kind"], row.get("key")) for row in read_rows(tmp_path / "out/disagreements.jsonl", ["kind"])}
    assert kinds & {("unlike_own", rows[4]["key"]), ("nearer_to_other", rows[4]["key"])}


def test_a_second_run_embeds_only_what_is_new(clips, tmp_path, monkeypatch):
    find_speakers(str(clips), str(tmp_path), **NANO)
    before = (tmp_path / "speakers.json").read_text()
    monkeypatch.setattr(remembered, "read_recording", lambda _: pytest.fail("a known clip is read again"))
    find_speakers(str(clips), str(tmp_path), **NANO)
    assert (tmp_path / "speakers.json").read_text() == before


def test_an_interrupted_run_keeps_what_it_embedded(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "KEEP_EVERY", 3)
    read, seen = remembered.read_recording, []

    def interrupted(path):
        seen.append(path)
        if len(seen) == 8:
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(remembered, "read_recording", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find_speakers(str(clips), str(tmp_path), **NANO)
    seen[:] = seen[:0] + [None] * 8
    find_speakers(str(clips), str(tmp_path), **NANO)
    assert len(seen) - 8 == 16 - 6


def test_hostile_files_have_a_reason(clips, tmp_path, write_video):
    rows = read_rows(clips, KEYS)[:2]
    whole = (clips.parent / rows[0]["path"]).read_bytes()
    folder = tmp_path / "list"
    folder.mkdir()
    hostile = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"no video\n"}
    for name, content in hostile.items():
        (folder / f"{name}.mp4").write_bytes(content)
    write_video(folder / "quiet.mp4", 17, loudness=0.0)
    write_video(folder / "blink.mp4", 1)
    (folder / "good.mp4").write_bytes(whole)
    listed = [{"key": path.stem, "path": path.name} for path in sorted(folder.iterdir())]
    listed += [{"key": "good", "path": "good.mp4"}, {"key": "../up", "path": "good.mp4"}]
    listed += [{"key": "gone", "path": "gone.mp4"}, {"key": "odd", "path": 7}, {"key": "folder", "path": "."}]
    write_rows(folder / "clips.jsonl", listed)
    find_speakers(str(folder / "clips.jsonl"), str(tmp_path / "out"), **NANO)
    rejected = read_rows(tmp_path / "out/rejected.jsonl", ["key", "reason", "detail"])
    assert [(row["key"], row["reason"]) for row in rejected] == [
        ("good", "duplicate_key"),
        ("../up", "unsafe_key"),
        ("gone", "missing_file"),
        ("odd", "missing_file"),
        ("folder", "missing_file"),
        ("blink", "too_short"),
        ("cut", "unreadable"),
        ("empty", "unreadable"),
        ("quiet", "silent"),
        ("text", "unreadable"),
    ]
    assert [row["key"] for row in read_rows(tmp_path / "out/clips.jsonl", KEYS[:2])] == ["good"]


def test_a_folder_of_recordings_is_a_list(clips, tmp_path):
    find_speakers(str(clips.parents[1] / "videos"), str(tmp_path), truth="folder", **NANO)
    assert found(tmp_path)["truth"]["f1"] == 1.0


def test_names_that_are_labels_are_not_given_to_others():
    assert tool.name_groups([0, 1, 2], ["", "speaker-0001", ""]) == ["speaker-0002", "speaker-0001", "speaker-0003"]


def test_bad_options_are_refused(clips, tmp_path):
    output = str(tmp_path)
    with pytest.raises(ValueError, match=r"--truth speaker is what --labels says, so nothing would be measured"):
        find_speakers(str(clips), output, truth="speaker", **NANO)
    with pytest.raises(ValueError, match=r"no clip of .* has a value under --truth who"):
        find_speakers(str(clips), output, truth="who", **NANO)
    with pytest.raises(ValueError, match=r"would replace .*clips.jsonl; choose another folder"):
        find_speakers(str(clips), str(clips.parent), **NANO)
    with pytest.raises(ValueError, match=r"--voice must be one of nano_speaker, .*; got 'wer'"):
        find_speakers(str(clips), output, voice="wer", face="none")
    with pytest.raises(ValueError, match=r"--voice_threshold must lie between -1 and 1, it is a cosine; got 83"):
        find_speakers(str(clips), output, voice_threshold=83.0, **NANO)
    with pytest.raises(Unavailable, match=r"spk_sim_dvector: .* is missing; get it with: curl"):
        find_speakers(str(clips), output, voice="spk_sim_dvector", weights=str(tmp_path))
    with pytest.raises(ValueError, match=r"workers must be at least 1; got 0"):
        find_speakers(str(clips), output, **NANO | {"workers": 0})


def test_a_damaged_file_of_embeddings_is_named(tmp_path):
    path = tmp_path / "voice.safetensors"
    save_file({}, path)
    assert remembered.read_embeddings(path) == {}
    os.truncate(path, 5)
    with pytest.raises(ValueError, match=r"voice.safetensors cannot be read .*; remove it, it is made again"):
        remembered.read_embeddings(path)


@pytest.mark.slow
def test_voice_and_face_find_nano_speakers_together(clips, tmp_path):
    find_speakers(str(clips), str(tmp_path), labels="none", truth="speaker", **NANO | {"face": "nano_face"})
    assert found(tmp_path)["truth"]["f1"] == 1.0
    assert [one["scorer"] for one in found(tmp_path)["embedders"]] == ["nano_speaker", "nano_face"]
    assert min(one["least_margin"] for one in found(tmp_path)["speakers"].values()) > 1.0


def test_faces_of_one_nano_person_are_alike_and_of_two_are_not():
    people = [world.speaker(corpus.split_seed("validation", index)) for index in range(6)]
    made = render(people * 2, [world.script(700 + index) for index in range(12)]).frames
    network = NanoFaceEmbedder()
    vectors = torch.stack([torch.nn.functional.normalize(network.embed(frames).mean(0), dim=0) for frames in made])
    cosines = vectors[:6] @ vectors[6:].T
    assert cosines.diagonal().min() > 0.95
    assert (cosines - 2 * torch.eye(6)).max() < 0.85


class Killer:
    """A network whose process dies at one clip."""

    name, digest = "killer", "0"

    def embed(self, clip):
        if clip.waveform.abs().max() > 0.99:
            os._exit(9)
        return torch.ones(2)


@pytest.mark.slow
def test_a_clip_whose_process_dies_has_a_reason_and_is_tried_again(tmp_path):
    tone = torch.sin(torch.arange(16000) / 20)[None]
    files = {}
    for k, level in enumerate((0.5, 1.0, 0.25)):
        write_audio(level * tone, tmp_path / f"{k}.wav", 16000)
        files[tmp_path / f"{k}.wav"] = str(k)
    seen = remembered.embed_clips(files, [Killer()], tmp_path / "kept", workers=2)["killer"]
    assert seen.pop("1") == "crashed"
    assert sorted(seen) == ["0", "2"]
    assert sorted(remembered.read_embeddings(tmp_path / "kept/killer-0.safetensors")) == ["0", "2"]
