"""A drawn reference: another clip of the same speaker, by a rule, and a function of seed, epoch and key."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from idlora_pl.data.datamodule import PairedClips
from idlora_pl.data.samples import PairBatch, PairSample, ShardError
from idlora_pl.data.shards import write_shards
from idlora_pl.data.voices import main, read_voices, write_voices
from tests.data.conftest import random_sample

N_CLIPS, N_SPEAKERS = 24, 3


def facts(clip: int) -> tuple[str, str, str, str]:
    """Key, speaker, video and room of a clip: eight clips a speaker, from four videos in two rooms."""
    speaker, number = clip % N_SPEAKERS, clip // N_SPEAKERS
    return f"c{clip:02d}", f"s{speaker}", f"s{speaker}-v{number // 2}", f"room{number // 4}"


def sample_of(target: int) -> PairSample:
    """A clip whose reference is the one that is half the set away."""
    other = (target + 4 * N_SPEAKERS) % N_CLIPS
    key, speaker, video, room = facts(target)
    voice, _, voice_video, voice_room = facts(other)
    meta = {"key": key, "speaker": speaker, "target_key": key, "target_source": video, "target_environment": room}
    meta |= {"reference_key": voice, "reference_source": voice_video, "reference_environment": voice_room}
    return replace(random_sample(target), reference=torch.full((2, 5, 4), float(other)), meta=meta)


@pytest.fixture
def voiced(tmp_path) -> Path:
    """Every clip is a target once, and lends its voice once."""
    write_shards((sample_of(k) for k in range(N_CLIPS)), tmp_path / "voiced", samples_per_shard=5)
    return tmp_path / "voiced"


def drawn(folder, *, epochs: int = 1, **settings) -> list[tuple[str, int]]:
    """(key, number of the clip whose voice it was given) over some epochs."""
    usual = {"batch_size": 4, "num_workers": 0, "shuffle_buffer": 6, "references": "same_speaker", "drop_last": False}
    loader = PairedClips(str(folder), **usual | settings).train_dataloader()
    return [pair for _ in range(epochs) for batch in loader for pair in voices_of_batch(batch)]


def voices_of_batch(batch: PairBatch) -> list[tuple[str, int]]:
    voices = batch.reference[:, 0, 0, 0].int().tolist()
    assert [meta["reference_key"] for meta in batch.meta] == [f"c{voice:02d}" for voice in voices]
    return [(meta["key"], voice) for meta, voice in zip(batch.meta, voices, strict=True)]


def test_the_stored_reference_is_kept_unless_another_is_asked_for(voiced):
    pairs = drawn(voiced, references="stored")
    assert all(voice == (int(key[1:]) + 12) % N_CLIPS for key, voice in pairs)
    assert not (voiced / "voices.json").exists()


@pytest.mark.parametrize(("rule", "n_choices"), [("same_speaker", 7), ("cross_video", 6), ("cross_environment", 4)])
def test_over_many_epochs_a_target_hears_every_voice_that_the_rule_allows(voiced, rule, n_choices):
    heard: dict[str, set[int]] = {}
    for key, voice in drawn(voiced, references=rule, epochs=60, cache=True):
        heard.setdefault(key, set()).add(voice)
    for key, voices in heard.items():
        _, speaker, video, room = facts(int(key[1:]))
        assert len(voices) == n_choices
        assert int(key[1:]) not in voices
        for voice in map(facts, voices):
            assert voice[1] == speaker
            assert rule == "same_speaker" or voice[2] != video
            assert rule != "cross_environment" or voice[3] != room


@pytest.mark.parametrize(
    "settings", [{"num_workers": 1}, {"num_workers": 4}, {"batch_size": 3}, {"cache": True}, {"shuffle_buffer": 0}]
)
def test_the_draw_depends_on_nothing_but_seed_epoch_and_key(voiced, settings):
    assert sorted(drawn(voiced, **settings)) == sorted(drawn(voiced))
    assert sorted(drawn(voiced, seed=1)) != sorted(drawn(voiced))


def test_epochs_draw_anew_and_a_resumed_run_draws_the_same(voiced):
    def data() -> PairedClips:
        return PairedClips(str(voiced), batch_size=4, num_workers=2, shuffle_buffer=6, references="cross_video")

    loader = data().train_dataloader()
    whole = [[voices_of_batch(batch) for batch in loader] for _ in range(2)]
    assert sorted(sum(whole[0], [])) != sorted(sum(whole[1], []))
    first, second = data(), data()
    batches = iter(first.train_dataloader())
    used = [voices_of_batch(next(batches)) for _ in range(2)]
    second.load_state_dict(first.state_dict())
    assert used + [voices_of_batch(batch) for batch in second.train_dataloader()] == whole[0]
    third = PairedClips(str(voiced), batch_size=4, num_workers=2, shuffle_buffer=6)
    third.load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match="made with data references = cross_video, this run has stored"):
        third.train_dataloader()


def test_voices_of_shards_that_are_held_out_are_never_drawn(voiced):
    part = f"{voiced}/pairs-{{000000..000002}}.tar"
    allowed = {(k + 12) % N_CLIPS for k in range(15)}
    assert {voice for _, voice in drawn(part, epochs=30, cache=True)} == allowed != set(range(N_CLIPS))


def test_voices_come_from_a_url_or_a_command_too(voiced):
    expected = drawn(voiced)
    assert drawn(f"pipe:cat {voiced}/pairs-{{000000..000004}}.tar") == expected
    (voiced / "voices.json").unlink()
    with pytest.raises(
        ShardError, match=r"voices.json cannot be read \(cat ended with status 1\); write it with python"
    ):
        drawn(f"pipe:cat {voiced}/pairs-{{000000..000004}}.tar")


def test_old_voices_are_written_again_on_disk_and_refused_elsewhere(voiced, tmp_path, make_sample):
    write_voices(voiced)
    old = json.loads((voiced / "voices.json").read_text())
    old["shards"]["pairs-000001.tar"] = "0" * 64
    (voiced / "voices.json").write_text(json.dumps(old))
    with pytest.raises(ShardError, match=r"voices.json is of other shards than index.json lists; write it with"):
        drawn(f"pipe:cat {voiced}/pairs-{{000000..000004}}.tar")
    assert len(drawn(voiced)) == N_CLIPS
    assert read_voices(voiced).shards["pairs-000001.tar"] != "0" * 64


def test_the_voices_of_equal_sets_are_equal_bytes(voiced):
    write_voices(voiced)
    first = [(voiced / name).read_bytes() for name in ("voices.json", "voices.safetensors")]
    write_voices(voiced)
    assert [(voiced / name).read_bytes() for name in ("voices.json", "voices.safetensors")] == first
    assert {path.suffix for path in voiced.iterdir()} == {".tar", ".json", ".safetensors"}


def test_true_lengths_of_padded_references_go_with_them(tmp_path, make_sample):
    def sample(k: int) -> PairSample:
        meta = {"key": f"c{k}", "speaker": "s", "reference_key": f"r{k}", "reference_tokens": k + 1}
        return replace(make_sample(k), meta=meta)

    write_shards((sample(k) for k in range(4)), tmp_path / "padded")
    (batch,) = PairedClips(
        str(tmp_path / "padded"), batch_size=4, num_workers=0, references="same_speaker"
    ).train_dataloader()
    assert all(meta["reference_tokens"] == int(meta["reference_key"][1]) + 1 for meta in batch.meta)


def without(*names: str) -> Callable[[PairSample], PairSample]:
    return lambda sample: replace(sample, meta={n: value for n, value in sample.meta.items() if n not in names})


@pytest.mark.parametrize(
    ("change", "rule", "message"),
    [
        (without("speaker"), "same_speaker", r"clip c0 has no speaker in its meta, so no other voice can be drawn"),
        (without("reference_key"), "same_speaker", r"clip c0 has no reference_key in its meta"),
        (without("reference_source"), "cross_video", r"cross_video leaves 2 of 2 clips without a voice, such as c0"),
        (without(), "cross_environment", r"cross_environment leaves 2 of 2 clips without a voice"),
    ],
)
def test_a_set_that_does_not_tell_enough_is_refused_before_training(tmp_path, make_sample, change, rule, message):
    def sample(k: int) -> PairSample:
        meta = {"key": f"c{k}", "speaker": "s", "reference_key": f"c{1 - k}"}
        return replace(make_sample(k), meta=meta | {"target_source": f"v{k}", "reference_source": f"v{1 - k}"})

    write_shards((change(sample(k)) for k in range(2)), tmp_path / "poor")
    with pytest.raises(ShardError, match=message):
        drawn(tmp_path / "poor", references=rule, batch_size=2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("voices.json", b"[]", "is not what this version writes"),
        ("voices.json", b"{}", "is not what this version writes"),
        ("voices.json", b"\xff", "is not what this version writes"),
        ("voices.safetensors", b"\xff" * 20, "is not what this version writes"),
        ("voices.safetensors", b"", "is not what this version writes"),
    ],
)
def test_damaged_voices_are_refused_in_one_sentence(voiced, name, content, message):
    write_voices(voiced)
    (voiced / name).write_bytes(content)
    with pytest.raises(ShardError, match=message) as caught:
        drawn(voiced)
    assert re.search(r"; write it with python -m idlora_pl.data.voices FOLDER$", str(caught.value))


def test_the_command_writes_them(voiced, capsys):
    main([str(voiced)])
    assert capsys.readouterr().out.startswith("24 voices of 3 speakers in ")
    with pytest.raises(SystemExit, match=r"voice_files: shard folder .*nowhere does not exist"):
        main([str(voiced / "nowhere")])
