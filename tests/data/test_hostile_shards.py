"""Whatever a tar holds: one sentence with shard and key, no traceback, nothing written, and the good pair is kept."""

import io
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import SafetensorError
from safetensors.torch import load, save

from idlora_pl.data.datamodule import PairedClips
from idlora_pl.data.samples import ShardError, tensors_in
from idlora_pl.data.shards import ShardFile, ShardIndex, write_shards
from idlora_pl.data.stream import ShardSet
from tests.data.conftest import random_sample
from tests.data.hostile import BAD, GOOD, Hostile, bad_tensors, hostile_shards

SHARDS = hostile_shards(random_sample)


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> ShardIndex:
    """The index that every hostile shard claims to have."""
    made = write_shards([random_sample(0)], tmp_path_factory.mktemp("set") / "out", codecs="random")
    return replace(made, shards=(ShardFile("pairs-000000.tar", (GOOD, BAD), 1, ""),))


def on_disk(shard: Hostile, index: ShardIndex, folder: Path) -> Path:
    """A folder with the tar and an index that fits."""
    (folder / "set").mkdir()
    (folder / "set" / "pairs-000000.tar").write_bytes(shard.tar)
    file = replace(index.shards[0], n_bytes=len(shard.tar))
    (folder / "set" / "index.json").write_text(replace(index, shards=(file,)).to_json())
    return folder / "set"


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_there_are_more_than_a_hundred_different_ones():
    assert len({shard.name for shard in SHARDS}) == len(SHARDS) >= 130
    assert len({shard.tar for shard in SHARDS}) >= 125


@pytest.mark.parametrize("shard", SHARDS, ids=lambda shard: shard.name)
def test_a_hostile_shard_ends_in_one_sentence(shard, index, tmp_path, monkeypatch):
    folder = on_disk(shard, index, tmp_path)
    monkeypatch.chdir(tmp_path)
    before = files_in(tmp_path)
    loader = PairedClips(str(folder), batch_size=2, num_workers=0, shuffle_buffer=0).train_dataloader()
    with pytest.raises(ShardError) as caught:
        list(loader)
    assert re.fullmatch(r"pairs-000000\.tar: clip (good|bad) [ -~]{10,600}", str(caught.value))
    assert re.search(shard.says, str(caught.value))
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("shard", SHARDS, ids=lambda shard: shard.name)
def test_the_good_pair_takes_the_place_of_the_hostile_one(shard, index, tmp_path):
    folder = on_disk(shard, index, tmp_path)
    settings = {"batch_size": 2, "num_workers": 0, "shuffle_buffer": 0, "on_fault": "skip"}
    loader = PairedClips(str(folder), **settings).train_dataloader()
    outcomes = dict(ShardSet((f"{folder}/pairs-000000.tar",), index).outcomes([(0, 0), (0, 1)]))
    if isinstance(outcomes[0, 0], ShardError):
        with pytest.raises(ShardError, match=r"^pairs-000000\.tar: clip good"):
            list(loader)
        return
    (batch,) = loader
    assert [meta["key"] for meta in batch.meta] == [GOOD, GOOD]
    assert loader.faults.in_epoch == 1
    assert list(loader.faults.reasons) == [("pairs-000000.tar", BAD)]


def test_what_unpacks_a_hostile_shard_would_write_outside():
    # the shards are what they claim to be: a plain reader of tars sees the names and links
    by_name = {shard.name: shard.tar for shard in SHARDS}
    for name, member in (("up, before", "../evil.meta.json"), ("absolute passwd, before", "/etc/passwd")):
        with tarfile.open(fileobj=io.BytesIO(by_name[name])) as tar:
            assert member in tar.getnames()
    with tarfile.open(fileobj=io.BytesIO(by_name["symlink, before"])) as tar:
        assert tar.getmembers()[2].linkname == "/etc/passwd"


@pytest.mark.parametrize(("name", "content", "_"), list(bad_tensors(random_sample(1))), ids=lambda part: str(part)[:30])
def test_tensors_are_refused_that_safetensors_refuses(name, content, _):
    with pytest.raises(ValueError, match=r".+"):
        tensors_in(bytearray(content))
    if name not in ("too many axes", "twice in the header"):  # the library allows them
        with pytest.raises((SafetensorError, ValueError, OverflowError, MemoryError)):
            load(content)


def test_damaged_tensors_are_never_read_differently_from_safetensors():
    import random

    import torch

    whole = save(random_sample(1).tensors())
    rng = random.Random(0)
    n_accepted = 0
    for _ in range(3000):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 5))):
            # most of the damage in the header
            content[rng.randrange(len(content) if rng.random() < 0.2 else 700)] = rng.randrange(256)
        try:
            ours = tensors_in(content)
        except ValueError:
            continue
        theirs = load(bytes(content))
        n_accepted += 1
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name].nan_to_num(), theirs[name].nan_to_num()) for name in ours)
    assert n_accepted > 100
