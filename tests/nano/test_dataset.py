"""Nano data sets on disk: shards read back as rendered, test items as a user would bring them."""

import json

import pytest
import torch

from idlora_pl.benchmark.items import read_prompts
from idlora_pl.data.datamodule import PairedClips
from idlora_pl.media.reading import read_audio, read_clip, read_image, read_metadata
from idlora_pl.nano import dataset
from idlora_pl.nano.codecs import NanoCodecs
from idlora_pl.nano.corpus import build_corpus, encode_clips, split_seed
from idlora_pl.nano.dataset import scripts_of
from idlora_pl.nano.render import render
from idlora_pl.nano.world import speaker


def test_shards_hold_both_orders_of_each_speakers_pair(nano_data):
    data = PairedClips(str(nano_data / "train"), batch_size=12, num_workers=0, shuffle_buffer=0)
    batch = next(iter(data.train_dataloader()))
    assert data.index.codecs == "nano"
    assert batch.target_video.shape == (12, 32, 9, 2, 2)
    assert batch.target_audio.shape == (12, 1, 33, 64)
    assert batch.reference.shape == (12, 1, 34, 64)
    by_key = {meta["key"]: row for row, meta in enumerate(batch.meta)}
    for key, row in by_key.items():
        other = by_key[key[:-1] + str(1 - int(key[-1]))]
        assert torch.equal(batch.reference[row, :, :33], batch.target_audio[other])
        assert batch.meta[row]["prompt"] != batch.meta[other]["prompt"]


def test_a_shard_holds_what_its_speaker_says(nano_data):
    batch = next(iter(PairedClips(str(nano_data / "train"), batch_size=12, num_workers=0).train_dataloader()))
    row = next(row for row, meta in enumerate(batch.meta) if meta["key"].endswith("-0"))
    who = int(batch.meta[row]["speaker"][1:])
    expected = encode_clips([speaker(who)], scripts_of(who, 1), NanoCodecs())
    assert torch.allclose(batch.target_video[row], expected.video[0], atol=1e-4)
    assert torch.allclose(batch.target_audio[row], expected.audio[0, :, :33], atol=1e-4)
    assert torch.equal(batch.text.video[row], expected.text[0])


def test_test_items_are_files_of_unseen_speakers(nano_data):
    entries = read_prompts(nano_data / "test/prompts.json")
    assert [entry.id for entry in entries] == ["item-0000", "item-0001"]
    who = split_seed("test", 0)
    assert entries[0].speaker == f"s{who:07d}"
    target, reference, other = scripts_of(who, 3)
    clip = render([speaker(who)], [target])
    assert entries[0].prompt == target.prompt
    assert entries[0].reference_speech == " ".join(reference.words)
    assert torch.equal(read_image(entries[0].first_frame), clip.frames[0, 0])
    for path, what in ((entries[0].reference, reference), (entries[0].compare, other)):
        sound, rate_hz = read_audio(path)
        expected = render([speaker(who)], [what], video=False).waveform
        assert rate_hz == 16000
        assert (sound - expected).abs().max() <= 1 / 32767
    real = read_clip(entries[0].target)
    assert real.frames.shape == (33, 3, 256, 256)
    assert "AI-generated" not in " ".join(read_metadata(entries[0].target).values())


def test_a_corpus_does_not_depend_on_its_chunks():
    items = [(who, scripts_of(who, 1)[0]) for who in range(3)]
    whole, parts = build_corpus(items, chunk=3), build_corpus(items[:1], chunk=1)
    assert torch.allclose(whole.video[:1], parts.video, atol=1e-5)
    assert torch.allclose(whole.audio[:1], parts.audio, atol=1e-4)


def test_the_command_writes_all_or_nothing(tmp_path):
    sizes = ["--train_speakers=1", "--validation-speakers=1", "--test_speakers=1"]  # dashes are accepted
    dataset.main([str(tmp_path / "made"), *sizes])
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["test", "train", "validation"]
    assert len(json.loads((tmp_path / "made/test/prompts.json").read_text())) == 1
    with pytest.raises(SystemExit, match="already holds something; remove it or choose another folder"):
        dataset.main([str(tmp_path / "made"), *sizes])
