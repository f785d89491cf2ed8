"""write_shards packs a folder of samples: limits, bytes, consent, and what it refuses."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from data_tools.shards.sample_folder import keep_settings, parse_bytes, spread, write_sample
from data_tools.verb.lists import write_rows
from data_tools.write_shards import write_shards
from idlora_pl.data.samples import PairSample, ShardError
from idlora_pl.data.shards import sha256_of
from idlora_pl.data.stream import open_shards
from idlora_pl.method.tokens import TextFeatures


def some_sample(key: str, speaker: str, consent: str | None) -> PairSample:
    """A sample of about 9 kB: bf16 video, float32 sound."""
    rng = torch.Generator().manual_seed(len(key) + ord(key[-1]))
    text = TextFeatures(torch.ones(3, 4).bfloat16(), torch.ones(3, 4).bfloat16(), torch.ones(3, dtype=torch.bool))
    video = torch.randn(128, 2, 4, 4, generator=rng).bfloat16()
    meta = {"key": key, "speaker": speaker, "prompt": f"{speaker} talks"} | ({"consent": consent} if consent else {})
    return PairSample(video, torch.zeros(1, 2, 3), torch.zeros(1, 5, 3), text, meta)


def sample_folder(folder: Path, consents: dict[str, str | None]) -> Path:
    """Three samples of each speaker, and one that was left out."""
    keep_settings(folder, {"base": "smoke", "duration_s": 0.08})
    samples = [some_sample(f"{who}-{k}", who, consent) for who, consent in consents.items() for k in range(3)]
    for sample in samples:
        write_sample(sample, folder)
    write_rows(folder / "samples.jsonl", [{"key": sample.key} for sample in samples])
    write_rows(folder / "rejected.jsonl", [{"key": "x", "reason": "too_short", "detail": "9 frames"}])
    return folder


@pytest.fixture
def samples(tmp_path):
    return sample_folder(tmp_path / "samples", {"ann": "signed", "bob": "own recording"})


def index_of(folder: Path) -> dict:
    return json.loads((folder / "index.json").read_text())


def test_shards_keep_to_the_asked_size_and_the_index_says_what_they_are(samples, tmp_path):
    write_shards(str(samples), str(tmp_path / "shards"), shard_size="20 KB")
    index = index_of(tmp_path / "shards")
    assert [len(shard["keys"]) for shard in index["shards"]] == [1, 1, 1, 1, 1, 1]
    assert index["n_samples"] == 6
    for shard in index["shards"]:
        path = tmp_path / "shards" / shard["name"]
        assert (shard["n_bytes"], shard["sha256"]) == (path.stat().st_size, sha256_of(path))
    assert index["dtypes"]["target_video"] == "bfloat16"
    assert (tmp_path / "shards" / "rejected.jsonl").read_bytes() == (samples / "rejected.jsonl").read_bytes()


def test_members_are_safetensors_and_json_with_fixed_times_and_owners(samples, tmp_path):
    write_shards(str(samples), str(tmp_path / "shards"), samples_per_shard=6)
    with tarfile.open(tmp_path / "shards" / "pairs-000000.tar") as tar:
        members = tar.getmembers()
    assert {member.name.partition(".")[2] for member in members} == {"latents.safetensors", "meta.json"}
    assert {(member.mtime, member.uid, member.gid, member.mode) for member in members} == {(0, 0, 0, 0o644)}


def test_an_interrupted_run_is_finished_with_the_same_bytes(samples, tmp_path, tree):
    whole, again = tmp_path / "whole", tmp_path / "again"
    for folder in (whole, again):
        write_shards(str(samples), str(folder), samples_per_shard=2)
    kept = (again / "pairs-000000.tar").stat().st_mtime_ns
    (again / "index.json").unlink()
    (again / "pairs-000001.tar").write_bytes(b"half")
    (again / ".pairs-000002.77.partial.tar").write_bytes(b"half")
    write_shards(str(samples), str(again), samples_per_shard=2)
    assert tree(again) == tree(whole)
    assert (again / "pairs-000000.tar").stat().st_mtime_ns == kept


@pytest.mark.slow
def test_several_processes_give_the_same_bytes(samples, tmp_path, tree):
    write_shards(str(samples), str(tmp_path / "one"), samples_per_shard=2)
    write_shards(str(samples), str(tmp_path / "two"), samples_per_shard=2, workers=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_sample_that_left_the_list_leaves_the_shards(samples, tmp_path):
    write_shards(str(samples), str(tmp_path / "shards"), samples_per_shard=2)
    write_rows(samples / "samples.jsonl", [{"key": f"ann-{k}"} for k in range(3)])
    write_shards(str(samples), str(tmp_path / "shards"), samples_per_shard=2)
    found = open_shards(str(tmp_path / "shards"))
    assert sorted(key for shard in found.index.shards for key in shard.keys) == ["ann-0", "ann-1", "ann-2"]
    assert len(list((tmp_path / "shards").glob("*.tar"))) == 2


def test_the_index_says_the_consent_of_every_speaker(samples, tmp_path):
    write_shards(str(samples), str(tmp_path / "shards"))
    settings = open_shards(str(tmp_path / "shards")).index.settings
    assert settings["consent_of_speakers"] == {"ann": "signed", "bob": "own recording"}
    assert settings["consent"] == "own recording (1 speakers); signed (1 speakers)"


def test_unknown_consent_is_refused_unless_a_flag_that_the_index_repeats_allows_it(tmp_path):
    samples = sample_folder(tmp_path / "samples", {"ann": "signed", "bob": None})
    with pytest.raises(ValueError, match=r"consent of 1 of 2 speakers is unknown \(bob is one\)"):
        write_shards(str(samples), str(tmp_path / "shards"))
    assert not (tmp_path / "shards").exists()
    write_shards(str(samples), str(tmp_path / "shards"), allow_unknown_consent=True)
    settings = open_shards(str(tmp_path / "shards")).index.settings
    assert "unknown, allowed by --allow_unknown_consent (1 speakers)" in settings["consent"]
    assert settings["allow_unknown_consent"] is True
    write_shards(str(samples), str(tmp_path / "said"), consent="signed")
    assert open_shards(str(tmp_path / "said")).index.settings["consent"] == "signed"


def test_a_list_with_a_key_twice_or_an_unfinished_folder_is_refused(samples, tmp_path):
    write_rows(samples / "samples.jsonl", [{"key": "ann-0"}, {"key": "ann-0"}])
    with pytest.raises(ValueError, match=r"samples.jsonl has 'ann-0' twice; give every pair its own key"):
        write_shards(str(samples), str(tmp_path / "shards"))
    write_rows(samples / "samples.jsonl", [{"key": "../../out"}])
    with pytest.raises(ValueError, match=r"has the key '../../out'; use letters"):
        write_shards(str(samples), str(tmp_path / "shards"))
    (samples / "samples.jsonl").unlink()
    with pytest.raises(ValueError, match=r"has no samples.jsonl, so it is not finished; run data_tools.encode_clips"):
        write_shards(str(samples), str(tmp_path / "shards"))


def test_a_damaged_sample_ends_the_run_without_an_index(samples, tmp_path):
    (samples / "bob-1.latents.safetensors").write_bytes(b"half")
    with pytest.raises(ShardError, match=r"clip bob-1 cannot be decoded"):
        write_shards(str(samples), str(tmp_path / "shards"), samples_per_shard=2, seed=1)
    assert not (tmp_path / "shards" / "index.json").exists()
    (samples / "bob-1.meta.json").write_text('{"key": "eve"}')
    with pytest.raises(ShardError, match=r"bob-1.meta.json is of the sample 'eve'; delete it and run"):
        write_shards(str(samples), str(tmp_path / "shards"), samples_per_shard=2, seed=1)


def test_a_folder_that_holds_something_else_is_refused(samples, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ShardError, match=r"mine already holds something; remove it or choose another folder"):
        write_shards(str(samples), str(tmp_path / "mine"))


@pytest.mark.parametrize("size", ["0MB", "big", "5", "-1GB", "1IB"])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match=r"shard_size must be a size such as 500MB or 1GB"):
        parse_bytes(size)


def test_every_sample_is_in_one_shard_and_no_shard_is_too_large():
    rng = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 40, (100,), generator=rng).tolist()
    parts = spread(sizes, 64, 5)
    assert [k for part in parts for k in part] == list(range(100))
    assert all(sum(sizes[k] for k in part) <= 64 and 1 <= len(part) <= 5 for part in parts)


def test_one_split_is_packed(samples, tmp_path):
    for key in ("ann-0", "ann-1", "ann-2"):
        path = samples / f"{key}.meta.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"split": "val"}))
    write_shards(str(samples), str(tmp_path / "val"), split="val")
    index = open_shards(str(tmp_path / "val")).index
    assert sorted(index.shards[0].keys) == ["ann-0", "ann-1", "ann-2"]
    assert index.settings["consent_of_speakers"] == {"ann": "signed"}
    with pytest.raises(ValueError, match=r"has no sample of split 'test', only of None, val; correct --split"):
        write_shards(str(samples), str(tmp_path / "test"), split="test")


def test_a_full_disk_ends_with_one_sentence_and_the_run_continues_later(samples, tmp_path, tree):
    command = f"ulimit -f 20; exec {sys.executable} -m data_tools.write_shards {samples} {tmp_path / 'full'}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.strip().splitlines()[-1].startswith("write_shards: File too large")
    assert not list((tmp_path / "full").glob("*.tar"))
    for name in ("full", "whole"):
        write_shards(str(samples), str(tmp_path / name))
    assert tree(tmp_path / "full") == tree(tmp_path / "whole")


def test_a_damaged_tar_is_written_again(samples, tmp_path):
    write_shards(str(samples), str(tmp_path / "shards"))
    path = tmp_path / "shards" / "pairs-000000.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[:2000] + bytes(32) + whole[2032:])
    write_shards(str(samples), str(tmp_path / "shards"))
    assert path.read_bytes() == whole
