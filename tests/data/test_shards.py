"""Shards give back what was written, bit for bit, and say what is wrong with what cannot be."""

import json
import tarfile
from dataclasses import replace

import pytest
import torch

from idlora_pl.data.samples import PairSample, ShardError, collate, decode_sample, encode_sample
from idlora_pl.data.shards import ShardIndex, sha256_of, write_shards
from idlora_pl.data.stream import ShardSet, open_shards
from idlora_pl.method.tokens import TextFeatures


def read_all(shards: ShardSet) -> list[PairSample]:
    refs = [(shard, k) for shard, count in enumerate(shards.index.counts) for k in range(count)]
    return [sample for _, sample in shards.read(refs)]


def same(one: PairSample, other: PairSample) -> bool:
    """Equal values, precision and meta."""
    tensors, others = one.tensors(), other.tensors()
    return one.meta == other.meta and all(
        tensors[name].dtype == others[name].dtype and torch.equal(tensors[name], others[name]) for name in tensors
    )


def test_shards_give_back_values_precision_and_meta(shard_folder, make_sample):
    samples = read_all(open_shards(str(shard_folder)))
    assert len(samples) == 22
    assert all(same(sample, make_sample(index)) for index, sample in enumerate(samples))
    assert samples[0].target_video.dtype == torch.bfloat16
    assert samples[0].target_audio.dtype == torch.float32
    assert samples[0].text.mask.dtype == torch.bool


def test_text_shared_by_both_modalities_is_stored_once(make_sample):
    sample = make_sample(0)
    shared = replace(sample, text=TextFeatures(sample.text.video, sample.text.video, sample.text.mask))
    files = encode_sample(shared)
    assert len(files["latents.safetensors"]) < len(encode_sample(sample)["latents.safetensors"])
    assert same(decode_sample(files, "test"), shared)


def test_equal_samples_give_equal_bytes(tmp_path, make_sample):
    for name in ("one", "two"):
        write_shards((make_sample(k) for k in range(5)), tmp_path / name, samples_per_shard=3)
    for file in ("pairs-000000.tar", "pairs-000001.tar", "index.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_index_says_what_the_tars_hold(shard_folder):
    index = open_shards(str(shard_folder)).index
    assert index.counts == (6, 6, 6, 4)
    assert (index.codecs, index.settings) == ("random", {"duration_s": 0.24})
    assert index.shapes["target_audio"] == (2, 6, 4)
    assert index.dtypes["target_video"] == "bfloat16"
    for shard in index.shards:
        path = shard_folder / shard.name
        with tarfile.open(path) as tar:
            names = tar.getnames()
        assert names == [f"{key}.{end}" for key in shard.keys for end in ("latents.safetensors", "meta.json")]
        assert (shard.n_bytes, shard.sha256) == (path.stat().st_size, sha256_of(path))
    text = (shard_folder / "index.json").read_text()
    assert json.loads(text)["n_samples"] == 22
    assert ShardIndex.from_json(text, "test") == index


def test_a_brace_pattern_opens_some_of_the_shards(shard_folder):
    shards = open_shards(f"{shard_folder}/pairs-{{000001..000002}}.tar")
    assert [sample.key for sample in read_all(shards)] == [f"pair{k:04d}" for k in range(6, 18)]
    assert open_shards(f"{shard_folder}/pairs-000003.tar").index.n_samples == 4
    with pytest.raises(ShardError, match=r"pairs-000004.tar is not in index.json, which lists pairs-000000.tar to "):
        open_shards(f"{shard_folder}/pairs-{{000003..000004}}.tar")


def test_an_address_is_opened_through_webdataset(shard_folder):
    assert len(read_all(open_shards(f"file://{shard_folder}"))) == 22


def test_a_batch_stacks_its_samples(make_sample):
    batch = collate([make_sample(0), make_sample(1)])
    assert len(batch) == 2
    assert batch.target_video.shape == (2, 3, 2, 2, 2)
    assert batch.text.audio.shape == (2, 4, 6)
    assert torch.equal(batch.reference[1], make_sample(1).reference)
    moved = batch.to("meta")
    assert {moved.target_audio.device.type, moved.text.mask.device.type} == {"meta"}
    assert moved.target_video.dtype == torch.bfloat16


def test_another_number_of_tokens_is_refused_with_its_fix(tmp_path, make_sample):
    samples = [make_sample(k) for k in range(4)] + [make_sample(4, audio_tokens=5)]
    message = (
        "pairs-000001.tar: clip pair0004 has 5 audio tokens, shard set has 6; "
        "re-run data_tools.encode_clips with --duration 0.24"
    )
    with pytest.raises(ShardError, match=message):
        write_shards(samples, tmp_path / "out", samples_per_shard=3, settings={"duration_s": 0.24})
    assert list(tmp_path.iterdir()) == []


def test_another_reference_length_shape_or_precision_is_refused(tmp_path, make_sample):
    longer = make_sample(1, reference_tokens=7)
    wider = replace(make_sample(1), target_video=torch.zeros(3, 2, 2, 4).bfloat16())
    precise = replace(make_sample(1), target_video=make_sample(1).target_video.float())
    for sample, message in (
        (longer, r"clip pair0001 has 7 reference tokens, shard set has 5; re-run .* with one --duration"),
        (wider, r"clip pair0001 has target_video of shape \(3, 2, 2, 4\), shard set has \(3, 2, 2, 2\)"),
        (precise, r"clip pair0001 has target_video in float32, shard set has bfloat16; re-run"),
    ):
        with pytest.raises(ShardError, match=message):
            write_shards([make_sample(0), sample], tmp_path / "out")


def test_unusable_keys_and_folders_are_refused(tmp_path, make_sample, shard_folder):
    dotted = replace(make_sample(0), meta={"key": "a.b"})
    with pytest.raises(ShardError, match=r"clip a.b has a key outside letters, digits, _ and -"):
        write_shards([dotted], tmp_path / "out")
    with pytest.raises(ShardError, match=r"pairs-000000.tar: clip pair0000 is in the set twice"):
        write_shards([make_sample(0), make_sample(0)], tmp_path / "out")
    with pytest.raises(ShardError, match=r"out: there is no sample to write; make some with data_tools.encode_clips"):
        write_shards([], tmp_path / "out")
    with pytest.raises(ShardError, match=r"shards already holds something; remove it or choose another folder"):
        write_shards([make_sample(0)], shard_folder)


def test_a_missing_an_empty_or_a_foreign_folder_is_refused(tmp_path):
    with pytest.raises(ShardError, match=r"shard folder .*nowhere does not exist; give the folder of a shard set"):
        open_shards(str(tmp_path / "nowhere"))
    with pytest.raises(ShardError, match=r"shard folder .* is empty; give the folder of a shard set"):
        open_shards(str(tmp_path))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ShardError, match=r"shard folder .* has no index.json; .*write it with data_tools"):
        open_shards(str(tmp_path))
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(ShardError, match=r"index.json is not the index of a shard set \('format'\); write it"):
        open_shards(str(tmp_path))


def test_a_missing_or_shortened_shard_is_refused_before_training(shard_folder):
    path = shard_folder / "pairs-000002.tar"
    content = path.read_bytes()
    path.write_bytes(content[:5000])
    with pytest.raises(ShardError, match=r"pairs-000002.tar has 5000 bytes, index.json says \d+; copy it again or"):
        open_shards(str(shard_folder))
    path.unlink()
    with pytest.raises(ShardError, match=r"pairs-000002.tar is in index.json but missing; copy it again or"):
        open_shards(str(shard_folder))


def test_a_corrupt_member_is_named_with_its_shard_and_key(shard_folder):
    path = shard_folder / "pairs-000000.tar"
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        start = tar.getmember("pair0003.latents.safetensors").offset_data
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(ShardError, match=r"pairs-000000.tar: clip pair0003 cannot be decoded \(.*\); write the"):
        read_all(open_shards(str(shard_folder)))


def test_a_tar_that_ends_early_or_lacks_a_clip_is_named(shard_folder):
    shards = open_shards(str(shard_folder))
    path = shard_folder / "pairs-000001.tar"
    with tarfile.open(path) as tar:
        start = tar.getmember("pair0008.latents.safetensors").offset_data
    path.write_bytes(path.read_bytes()[: start + 10])
    with pytest.raises(ShardError, match=r"pairs-000001.tar: clip pair0008 cannot be read \(it ends within .*\); copy"):
        read_all(shards)
    with tarfile.open(path, "w"):
        pass
    with pytest.raises(ShardError, match=r"pairs-000001.tar: clip pair0006 .*it is in index.json but not in the tar"):
        read_all(shards)
