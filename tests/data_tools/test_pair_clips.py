"""Clips become pairs with a prompt; what cannot be paired is listed with its reason."""

import json

import pytest

from data_tools.caption_clips import caption_clips
from data_tools.clean_reference import clean_reference
from data_tools.cut_clips import cut_clips
from data_tools.find_speakers import find_speakers
from data_tools.pair_clips import pair_clips
from data_tools.verb.lists import read_rows, write_rows
from idlora_pl.benchmark.items import read_prompts
from idlora_pl.benchmark.layouts import check_layout
from idlora_pl.data.voices import Voice
from idlora_pl.evaluation.disjoint import compare_speakers
from idlora_pl.media.reading import read_image
from idlora_pl.nano import videos

CLIPS = [
    ("a0", "ann", "v1"),
    ("a1", "ann", "v1"),
    ("a2", "ann", "v2"),
    ("b0", "bob", "v3"),
    ("n0", "", "v4"),
]
KEYS = ("key", "target", "reference", "speaker", "prompt", "n_frames")


@pytest.fixture
def clips(tmp_path):
    rows = [
        {
            "key": key,
            "path": f"clips/{key}.mp4",
            "source": source,
            "speaker": speaker,
            "n_frames": 17,
            "duration_s": 0.68,
        }
        for key, speaker, source in CLIPS
    ]
    write_rows(tmp_path / "cut" / "clips.jsonl", rows)
    return tmp_path / "cut" / "clips.jsonl"


def test_pairs_name_files_relative_to_their_list(clips, tmp_path, prompt):
    pair_clips(str(clips), str(tmp_path / "lists" / "pairs.jsonl"), prompt=prompt)
    pairs = {row["key"]: row for row in read_rows(tmp_path / "lists" / "pairs.jsonl", KEYS)}
    assert sorted(pairs) == ["a0", "a1", "a2"]
    assert pairs["a0"]["target"] == "../cut/clips/a0.mp4"
    assert pairs["a0"]["reference"] == "../cut/clips/a2.mp4"
    assert {row["prompt"] for row in pairs.values()} == {prompt}


def test_pairs_say_what_training_needs_to_draw_another_voice(clips, tmp_path, prompt):
    rows = [row | {"environment": f"room {row['source']}"} for row in read_rows(clips, ["key"])]
    write_rows(clips, rows)
    pair_clips(str(clips), str(tmp_path / "pairs.jsonl"), rule="cross_environment", prompt=prompt)
    (first, *_) = read_rows(tmp_path / "pairs.jsonl", KEYS)
    assert Voice.of(first, "target") == Voice("a0", "ann", "v1", "room v1")
    assert Voice.of(first, "reference") == Voice("a2", "ann", "v2", "room v2")


def test_clips_that_cannot_be_paired_have_a_reason(clips, tmp_path, prompt):
    (tmp_path / "prompts.json").write_text(json.dumps({"a0": prompt, "v2": prompt}))
    pair_clips(str(clips), str(tmp_path / "pairs.jsonl"), prompts=str(tmp_path / "prompts.json"))
    rejected = read_rows(tmp_path / "rejected_pairs.jsonl", ["key", "reason"])
    reasons = {row["key"]: row["reason"] for row in rejected}
    assert reasons == {"n0": "no_speaker", "b0": "no_reference", "a1": "no_prompt"}
    assert [row["key"] for row in read_rows(tmp_path / "pairs.jsonl", KEYS)] == ["a0", "a2"]


def test_several_references_give_several_pairs(clips, tmp_path, prompt):
    pair_clips(str(clips), str(tmp_path / "pairs.jsonl"), per_target=2, prompt=prompt)
    keys = [row["key"] for row in read_rows(tmp_path / "pairs.jsonl", KEYS)]
    assert keys == ["a0", "a1", "a2", "a2-r1"]


def test_bad_input_is_refused(clips, tmp_path, prompt):
    output, prompts = str(tmp_path / "pairs.jsonl"), tmp_path / "prompts.json"
    with pytest.raises(ValueError, match=r"--prompt: prompt section \[SPEECH\] is missing"):
        pair_clips(str(clips), output, prompt="[VISUAL]: x [SOUNDS]: y")
    with pytest.raises(ValueError, match=r"prompts.json does not exist; write a JSON object of prompts"):
        pair_clips(str(clips), output, prompts=str(prompts))
    prompts.write_text("[1]")
    with pytest.raises(ValueError, match=r"prompts.json must be one object"):
        pair_clips(str(clips), output, prompts=str(prompts))
    with pytest.raises(ValueError, match=r"no clip could be paired; .*rejected_pairs.jsonl has the reasons"):
        pair_clips(str(clips), output, rule="cross_environment", prompt=prompt)


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    """Two clips of each of two videos of four nano speakers, with their captions."""
    folder = tmp_path_factory.mktemp("nano")
    videos.main([str(folder / "videos"), "--speakers", "4", "--clips", "4", "--clips-per-video", "2"])
    options = {
        "frames": 33,
        "centre_crop": True,
        "any_sound": True,
        "workers": 1,
        "consent": "signed",
        "speaker_from": "folder",
    }
    cut_clips(str(folder / "videos"), str(folder / "cut"), size="64", **options)
    caption_clips(
        str(folder / "cut/clips.jsonl"), str(folder / "cap"), texts=str(folder / "videos/truth.jsonl"), workers=1
    )
    return folder / "cap/clips.jsonl"


SPLIT = {"split": "0.5,0.25,0.25", "workers": 1, "face": "none"}


def test_splits_are_disjoint_and_their_lists_make_up_the_whole(nano, tmp_path):
    for name, voice in (("a", "nano_speaker"), ("b", "none")):
        pair_clips(str(nano), str(tmp_path / name / "pairs.jsonl"), voice=voice, **SPLIT)
    pairs = read_rows(tmp_path / "a/pairs.jsonl", (*KEYS, "split", "consent"))
    assert len(pairs) == 16
    assert {row["consent"] for row in pairs} == {"signed"}
    parts = {split: read_rows(tmp_path / f"a/pairs-{split}.jsonl", KEYS) for split in ("train", "val", "test")}
    assert [len(rows) for rows in parts.values()] == [8, 4, 4]
    assert sorted(row["key"] for rows in parts.values() for row in rows) == sorted(row["key"] for row in pairs)
    assert not {row["speaker"] for row in parts["train"]} & {row["speaker"] for row in parts["test"]}
    report = json.loads((tmp_path / "a/leaks.json").read_text())
    assert [about["found"] for about in report["checked"].values()] == [0] * 5
    assert list(report["not_checked"]) == ["same_face"]
    assert (tmp_path / "a/pairs.jsonl").read_bytes() == (tmp_path / "b/pairs.jsonl").read_bytes()


@pytest.mark.slow
def test_a_recording_under_two_names_is_a_leak(nano, tmp_path):
    rows = read_rows(nano, KEYS[:1])
    for row in rows:
        row["path"], row["split"] = str(nano.parent / row["path"]), "train"
    twice = rows[0] | {"key": "copy", "speaker": "zoe", "source": "zoe.mp4", "split": "test"}
    write_rows(tmp_path / "clips.jsonl", [*rows, twice])
    given = SPLIT | {"split": "given"}
    output = tmp_path / "pairs.jsonl"
    with pytest.raises(ValueError, match=r"leaks between splits \(same_file 1, same_sound 1\), see .*leaks.json"):
        pair_clips(str(tmp_path / "clips.jsonl"), str(output), **given)
    assert not output.exists()
    pair_clips(str(tmp_path / "clips.jsonl"), str(output), leaks="report", **given)
    assert len(read_rows(output, KEYS)) == 16
    with pytest.raises(ValueError, match=r"\(same_file 1, same_sound 1, same_voice 1\)"):
        pair_clips(str(tmp_path / "clips.jsonl"), str(output), leaks="refuse_suspected", voice="nano_speaker", **given)


def test_benchmarks_of_the_test_split_are_read_by_score_and_have_their_videos(nano, tmp_path):
    pair_clips(str(nano), str(tmp_path / "pairs.jsonl"), benchmark="tiny", **SPLIT)
    for level, videos_of in (("easy", 1), ("hard", 2)):
        entries = read_prompts(tmp_path / f"tiny_{level}.json", use="scoring")
        check_layout(entries)
        assert len(entries) == 4
        for entry in entries:
            assert len({entry.source, entry.reference_source}) == videos_of
            assert entry.split == f"tiny_{level}"
            assert entry.consent == "signed"
            assert entry.environment == entry.environment_sounds
            assert read_image(entry.first_frame).shape[0] == 3
        found = compare_speakers(entries, tmp_path / "pairs-train.jsonl")
        assert (found.leaked, found.n_benchmark, found.n_training) == ((), 1, 2)


def test_a_cleaned_voice_is_the_reference(nano, tmp_path, prompt):
    clean_reference(str(nano), str(tmp_path / "clean"), clean_above_db=100.0, workers=1)
    pair_clips(str(tmp_path / "clean/clips.jsonl"), str(tmp_path / "pairs.jsonl"))
    for row in read_rows(tmp_path / "pairs.jsonl", KEYS):
        assert row["reference"] == f"clean/voices/{row['reference_key']}.wav"
        assert (tmp_path / row["reference"]).is_file()
        assert row["target"].endswith(".mp4")


def test_bad_splits_are_refused(nano, tmp_path):
    output = str(tmp_path / "pairs.jsonl")
    for options, message in (
        ({"split": "0.9,0.2"}, r"split must be three shares of train, val, test that sum to 1"),
        ({"split": "given"}, r"has split None; write one of train, val, test"),
        ({"benchmark": "x"}, r"--benchmark x needs --split and a name"),
        ({"benchmark": "../x", **SPLIT}, r"--benchmark ../x needs --split and a name"),
        ({**SPLIT, "voice": "wer"}, r"--voice must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            pair_clips(str(nano), output, **options)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_400_nano_clips_of_40_speakers_are_found_paired_and_split_without_a_leak(tmp_path):
    videos.main([str(tmp_path / "videos"), "--workers", "2"])
    cut_clips(
        str(tmp_path / "videos"),
        str(tmp_path / "cut"),
        size="64",
        speaker_from="folder",
        centre_crop=True,
        any_sound=True,
    )
    networks = {"voice": "nano_speaker", "face": "nano_face"}
    find_speakers(
        str(tmp_path / "cut/clips.jsonl"), str(tmp_path / "found"), labels="none", truth="speaker", **networks
    )
    truth = json.loads((tmp_path / "found/speakers.json").read_text())["truth"]
    assert (truth["n_clips"], truth["n_true"]) == (400, 40)
    assert truth["f1"] >= 0.95
    caption_clips(
        str(tmp_path / "found/clips.jsonl"), str(tmp_path / "cap"), texts=str(tmp_path / "videos/truth.jsonl")
    )
    pair_clips(str(tmp_path / "cap/clips.jsonl"), str(tmp_path / "pairs.jsonl"), split="0.9,0.05,0.05", **networks)
    report = json.loads((tmp_path / "leaks.json").read_text())
    assert {kind: about["found"] for kind, about in report["checked"].items()} == dict.fromkeys(report["checked"], 0)
    assert len(report["checked"]) == 6
    pairs = read_rows(tmp_path / "pairs.jsonl", KEYS)
    assert len(pairs) == 400
    voices = [(Voice.of(row, "reference"), Voice.of(row, "target")) for row in pairs]
    assert all(reference.may_speak_for(target, "cross_video") for reference, target in voices)
    # the first folder of a source is its true speaker
    assert all(row["source"].split("/")[0] == row["reference_source"].split("/")[0] for row in pairs)
