"""Manifests: read like prompt files, made from folders, compared with the paper's splits and with training sets."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from idlora_pl.benchmark.items import FORMAT, PromptError, read_prompts
from idlora_pl.benchmark.layouts import HARD_PAIRS, LAYOUTS, check_layout, completeness
from idlora_pl.benchmark.manifest import keep_manifest
from idlora_pl.cli.tools import call_tool
from idlora_pl.evaluation.disjoint import Disjointness, compare_speakers
from idlora_pl.media.reading import read_clip, read_image

manifest = partial(call_tool, "manifest")

PUBLISHED = Path(__file__).parents[3] / "shared/media/published"
PROMPT = "[VISUAL]: A man. [SPEECH]: Hello. [SOUNDS]: Rain."
ITEM = {"id": "a", "speaker": "s1"}


def written(folder, items, **head):
    path = folder / "manifest.json"
    path.write_text(json.dumps({"format": FORMAT, "items": items} | head))
    return path


def test_an_item_of_a_manifest_is_completed(tmp_path):
    (tmp_path / "voice.wav").touch()
    caption = {"visual": "A man.", "speech": "Hello.", "sounds": "Rain.", "environment_sounds": "rain"}
    item = ITEM | {"reference": "voice.wav", "caption": caption, "language": "de", "clips": {"kling": "k/a.mp4"}}
    (item,) = read_prompts(written(tmp_path, [item]), seed=7)
    assert (item.id, item.prompt, item.seed) == ("a", PROMPT, 7)
    assert (item.reference, item.clips) == (tmp_path / "voice.wav", {"kling": tmp_path / "k/a.mp4"})
    assert (item.speech, item.environment_sounds, item.language) == ("Hello.", "rain", "de")


def test_a_prompt_gives_the_caption_and_the_other_way_round(tmp_path):
    (from_prompt,) = read_prompts(written(tmp_path, [ITEM | {"prompt": PROMPT}]))
    caption = {"visual": "A man.", "speech": "Hello.", "sounds": "Rain."}
    (from_caption,) = read_prompts(written(tmp_path, [ITEM | {"caption": caption}]))
    assert from_prompt == from_caption


def test_an_item_without_a_whole_prompt_can_be_scored_but_not_generated(tmp_path):
    path = written(tmp_path, [ITEM | {"caption": {"speech": "Hello."}}])
    (item,) = read_prompts(path, use="scoring")
    assert (item.prompt, item.speech, item.sounds) == ("", "Hello.", None)
    with pytest.raises(PromptError, match="item 'a' has no prompt to generate from; give it 'prompt', or a caption"):
        read_prompts(path)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"id": "a/b"}, "has id 'a/b'; clips are named by it: write text without '/'"),
        ({"id": ""}, "has id ''; clips are named by it"),
        (
            ITEM | {"refrence": "x"},
            "json, item 0 has the unknown key 'refrence'; known are id, speaker, reference, first_frame",
        ),
        (ITEM | {"caption": {"speach": "x"}}, "has a caption with the unknown part 'speach'; known are visual"),
        (ITEM | {"caption": "x"}, "has a caption with 'x'; known are visual"),
        (ITEM | {"caption": {"speech": "Bye."}, "prompt": PROMPT}, "prompt and caption differ in speech; keep one"),
        (ITEM | {"reference": "x.wav"}, "item 0: reference 'x.wav' does not exist"),
        (ITEM | {"clips": ["x.mp4"]}, "has clips .'x.mp4'.; write"),
        (ITEM | {"language": "German"}, "has language 'German'; write an ISO 639-1 code"),
        (ITEM | {"speaker": {}}, "has speaker {}; write text"),
        (ITEM | {"speaker": True}, "has speaker True; write text"),
        (ITEM | {"caption": {"speech": 5}}, "item 0 has speech 5; write text"),
        (ITEM | {"split": 5}, "item 0 has split 5; write text"),
        ({"speaker": "s1"}, "manifest.json, item 0 has no id; clips are named by it: write"),
        ("a", "item 0 has no text under 'id'; write at least"),
        ({"id": "é" * 200}, "has the id 'é{20}...' of 400 bytes; clips are named by it: write at most 200"),
        ({"id": "a\0"}, r"has id 'a.x00'; clips are named by it: leave out what cannot be printed"),
        (ITEM | {"clips": {"m": "c" * 400 + ".mp4"}}, "has the clip of m 'c{20}...' of 400 bytes"),
        (ITEM | {"reference": "r" * 400}, "reference 'r+' does not exist"),
        (ITEM | {"reference": "."}, "item 0: reference '.' is a folder .*; name the file in it"),
        (ITEM | {"output_name": "b"}, "says 'id' twice; keep one"),
    ],
)
def test_what_is_wrong_with_an_item_is_named(tmp_path, item, message):
    with pytest.raises(PromptError, match=message):
        read_prompts(written(tmp_path, [item]), use="scoring")


def test_other_formats_and_keys_are_refused(tmp_path):
    with pytest.raises(PromptError, match="has format 'mine'; this version reads 'idlora-benchmark-1'"):
        read_prompts(written(tmp_path, [ITEM], format="mine"))
    with pytest.raises(PromptError, match="manifest .* has the unknown key 'version'; known are format, name, items"):
        read_prompts(written(tmp_path, [ITEM], version=2))
    both = [{"id": "\u00e9"}, {"id": "e\u0301"}]  # one name to a file system
    with pytest.raises(PromptError, match="manifest .* uses id .* twice; give every item its own"):
        read_prompts(written(tmp_path, both), use="scoring")


def test_a_mark_of_the_byte_order_is_read_over_and_depth_is_refused(tmp_path):
    path = written(tmp_path, [ITEM])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_prompts(path, use="scoring")[0].speaker == "s1"
    path.write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(
        PromptError, match=r"manifest.json is not JSON that can be read .nested too deeply.; correct it"
    ):
        read_prompts(path)


def test_an_integer_may_name_a_speaker(tmp_path):
    items = [{"id": "a", "speaker": 7}, {"id": "b", "speaker": 0}, {"id": "c"}]
    read = read_prompts(written(tmp_path, items), use="scoring")
    assert [(item.speaker, item.person) for item in read] == [("7", "7"), ("0", "0"), (None, "c")]


def test_nothing_is_shown_by_an_empty_or_nameless_training_set(tmp_path):
    path, training = written(tmp_path, [ITEM]), tmp_path / "training.jsonl"
    training.write_text("")
    with pytest.raises(ValueError, match=r"the training set .*training.jsonl is empty, so nothing is known"):
        manifest(["check", str(path), "--training", str(training)])
    training.write_text('{"spk": "s2"}\n')
    with pytest.raises(SystemExit, match=r"it is not shown that speakers of .* are strangers to .*; name the speaker"):
        manifest(["check", str(path), "--training", str(training)])
    assert not Disjointness(0, 0, ()).is_shown
    training.write_text('{"speaker": "s2"}\n')
    manifest(["check", str(path), "--training", str(training)])


def test_the_hard_split_is_the_published_one(tmp_path):
    pairs = [pair for found in HARD_PAIRS.values() for pair in found]
    assert (sorted(pairs), len(HARD_PAIRS)) == (list(range(35)), 8)
    assert (LAYOUTS["celebvhq_hard"].n_items, LAYOUTS["talkvid"].n_items, LAYOUTS["talkvid"].n_speakers) == (35, 49, 41)
    items = [
        {"id": f"speaker_{who}_pair{pair}", "speaker": f"speaker_{who}", "split": "celebvhq_hard"}
        for who, found in HARD_PAIRS.items()
        for pair in found
    ]
    items = read_prompts(written(tmp_path, items), use="scoring")
    check_layout(items)
    assert completeness(items) == ["celebvhq_hard: 35 of 35 items, 8 of 8 speakers"]
    assert completeness(items[1:]) == ["celebvhq_hard: 34 of 35 items, 8 of 8 speakers: not the published set"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "speaker_844_pair23"}, "is no item of celebvhq_hard: pair 23 is of speaker 154; correct its split"),
        ({"id": "speaker_844_pair35"}, "there is no pair 35"),
        ({"source": "v1", "reference_source": "v1"}, "must come from different videos, they come from v1 and v1"),
        ({"split": "celebvhq_easy", "source": "v1", "reference_source": "v2"}, "must come from same videos"),
    ],
)
def test_items_that_contradict_their_split_are_refused(tmp_path, change, message):
    item = {"id": "speaker_844_pair3", "speaker": "speaker_844", "split": "celebvhq_hard"} | change
    with pytest.raises(PromptError, match=message):
        check_layout(read_prompts(written(tmp_path, [item]), use="scoring"))


def test_speakers_of_a_training_set_are_found(nano_data, tmp_path, capsys):
    strangers = compare_speakers(read_prompts(nano_data / "test/prompts.json"), nano_data / "train")
    assert (strangers.n_benchmark, strangers.n_training, strangers.leaked, strangers.is_shown) == (2, 6, (), True)
    validation = compare_speakers(read_prompts(nano_data / "test/prompts.json"), nano_data / "validation/index.json")
    assert validation.n_training == 2
    with open(tmp_path / "clips.jsonl", "w") as file:
        for speaker in ("154", "Speaker_7", None):
            file.write(json.dumps({"key": "k", "speaker": speaker}) + "\n")
    items = [{"id": "a", "speaker": "speaker_154"}, {"id": "b", "speaker": "8"}, {"id": "c"}]
    path = written(tmp_path, items)
    leak = compare_speakers(read_prompts(path, use="scoring"), tmp_path / "clips.jsonl")
    assert (leak.leaked, leak.n_training, leak.is_shown) == (("speaker_154",), 2, False)
    assert leak.sentence() == (
        "1 of 2 speakers of the benchmark are among the 2 of the training set: speaker_154 (1 items of the benchmark "
        "name no speaker, 1 training samples name no speaker; nothing is known of these)"
    )
    with pytest.raises(SystemExit, match="speakers of .*manifest.json are in the training set: speaker_154"):
        manifest(["check", str(path), "--training", str(tmp_path / "clips.jsonl")])
    assert "no split: 3 items of 3 speakers" in capsys.readouterr().out


def test_a_training_set_that_cannot_be_read_is_named(nano_data, tmp_path):
    items = read_prompts(nano_data / "test/prompts.json")
    shutil.copytree(nano_data / "validation", tmp_path / "set")
    shard = next((tmp_path / "set").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"pairs-000000.tar (cannot be read|holds \d samples)"):
        compare_speakers(items, tmp_path / "set")
    (tmp_path / "list.jsonl").write_text('{"speaker": "a"}\n[1]\n')
    with pytest.raises(ValueError, match=r"list.jsonl, line 2 is no JSON object"):
        compare_speakers(items, tmp_path / "list.jsonl")
    with pytest.raises(ValueError, match=r"training set .* has no index.json"):
        compare_speakers(items, tmp_path)


def test_what_cannot_be_a_manifest_is_refused_under_its_own_name(tmp_path):
    with pytest.raises(PromptError, match=rf"^manifest {tmp_path}/m.json, item 0: seed must be a whole number"):
        keep_manifest([{"id": "a", "seed": True}], tmp_path / "m.json", "mine")
    assert not list(tmp_path.iterdir())


def test_a_folder_becomes_a_manifest(nano_data, tmp_path, capsys):
    items = read_prompts(nano_data / "test/prompts.json")
    folder = tmp_path / "clips"
    captions = []
    for item in items:
        place = folder / item.id
        place.mkdir(parents=True)
        shutil.copy(item.target, place / "target.mp4")
        shutil.copy(item.target, place / "ours.mp4")
        shutil.copy(item.reference, place / "reference.wav")
        parts = {name: getattr(item, name) for name in ("visual", "speech", "sounds")}
        captions.append({"id": item.id, "speaker": item.speaker, "split": "mine"} | parts)
    (folder / "captions.json").write_text(json.dumps(captions))
    output = tmp_path / "elsewhere/manifest.json"
    manifest(["make", str(folder), str(output), "--first-frames"])
    assert "mine: 2 items of 2 speakers\nmethod ours: 2 of 2 clips" in capsys.readouterr().out
    made = read_prompts(output)
    assert [item.prompt for item in made] == [item.prompt for item in items]
    face = read_image(made[0].first_frame)
    assert face.equal(read_clip(items[0].target, n_frames=1).frames[0])
    shutil.rmtree(folder / "item-0001")
    with pytest.raises(PromptError, match=r"captions.json names 'item-0001', but .*item-0001 is no folder"):
        manifest(["make", str(folder), str(output)])
    (folder / "captions.json").write_text('{"id": 1}')
    with pytest.raises(PromptError, match="is not a list of objects with an id"):
        manifest(["make", str(folder), str(output)])


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"{PUBLISHED} is not here")
def test_the_published_clips_become_a_manifest(tmp_path, capsys):
    manifest(["make", str(PUBLISHED), str(tmp_path / "published.json")])
    items = read_prompts(tmp_path / "published.json")
    assert len(items) == 3
    assert {len(item.clips) for item in items} == {4, 5}
    assert all(clip.is_file() for item in items for clip in item.clips.values())
    said = capsys.readouterr().out
    assert "celebvhq_hard: 2 of 35 items, 2 of 8 speakers: not the published set" in said
    assert "method kling: 2 of 3 clips" in said
