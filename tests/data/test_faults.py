"""A clip that cannot be read stops a run, or another one takes its place and nothing else changes."""

import json
import tarfile
from pathlib import Path

import pytest
import torch

from idlora_pl.data.batches import Fault, FaultLog
from idlora_pl.data.datamodule import PairedClips
from idlora_pl.data.loader import PairLoader, Position
from idlora_pl.data.order import EpochOrder
from idlora_pl.data.samples import ShardError
from idlora_pl.data.stream import open_shards

Keys = list[list[str]]


def keys(batches) -> Keys:
    return [[meta["key"] for meta in batch.meta] for batch in batches]


def spoil(folder: Path, *names: str) -> None:
    """Overwrite the start of the tensors of some clips; sizes stay."""
    for path in sorted(folder.glob("*.tar")):
        content = bytearray(path.read_bytes())
        with tarfile.open(path) as tar:
            for name in set(names) & {member.name.partition(".")[0] for member in tar.getmembers()}:
                start = tar.getmember(f"{name}.latents.safetensors").offset_data
                content[start : start + 8] = b"\xff" * 8
        path.write_bytes(content)


def cut(path: Path, name: str) -> None:
    """End a tar within a clip, and let the index agree."""
    with tarfile.open(path) as tar:
        path.write_bytes(path.read_bytes()[: tar.getmember(f"{name}.latents.safetensors").offset_data + 20])
    index = json.loads((path.parent / "index.json").read_text())
    for shard in index["shards"]:
        shard["n_bytes"] = (path.parent / shard["name"]).stat().st_size
    (path.parent / "index.json").write_text(json.dumps(index))


def clips(folder, **settings) -> PairedClips:
    usual = {"batch_size": 3, "num_workers": 0, "shuffle_buffer": 5, "on_fault": "skip"}
    return PairedClips(str(folder), **usual | settings)


def replaced(before: Keys, after: Keys) -> set[str]:
    """Clips that are there before and have another one in their place after."""
    places = zip(sum(before, []), sum(after, []), strict=True)
    return {one for one, other in places if one != other}


@pytest.mark.parametrize("n_workers", [0, 1, 4])
@pytest.mark.parametrize("cache", [False, True])
def test_only_the_places_of_unreadable_clips_change(shard_folder, n_workers, cache):
    settings = {"num_workers": n_workers, "cache": cache, "drop_last": False}
    whole = keys(clips(shard_folder, **settings).train_dataloader())
    spoil(shard_folder, "pair0003", "pair0013", "pair0014")
    loader = clips(shard_folder, **settings).train_dataloader()
    assert replaced(whole, keys(loader)) == {"pair0003", "pair0013", "pair0014"}
    assert loader.faults.in_epoch == 3
    assert {key for _, key in loader.faults.reasons} == {"pair0003", "pair0013", "pair0014"}


def test_where_a_worker_has_no_good_clip_those_of_others_take_the_places(shard_folder):
    settings = {"num_workers": 4, "shuffle_buffer": 0, "drop_last": False}
    lost = {f"pair{k:04d}" for k in range(6)}  # what the first worker reads
    whole = keys(clips(shard_folder, **settings).train_dataloader())
    spoil(shard_folder, *lost)
    loader = clips(shard_folder, **settings).train_dataloader()
    batches = keys(loader)
    assert replaced(whole, batches) == lost
    assert not lost & set(sum(batches, []))
    assert loader.faults.in_epoch == 6


def test_a_cut_shard_loses_what_is_behind_the_cut(shard_folder):
    whole = keys(clips(shard_folder).train_dataloader())
    cut(shard_folder / "pairs-000002.tar", "pair0014")
    loader = clips(shard_folder).train_dataloader()
    lost = {f"pair{k:04d}" for k in range(14, 18)} & set(sum(whole, []))
    assert replaced(whole, keys(loader)) == lost
    assert all(shard == "pairs-000002.tar" for shard, _ in loader.faults.reasons)


@pytest.mark.parametrize("n_workers", [1, 3])
def test_both_ranks_give_equally_many_batches_whatever_one_of_them_loses(shard_folder, n_workers):
    cut(shard_folder / "pairs-000000.tar", "pair0000")
    found = open_shards(str(shard_folder))
    order = EpochOrder(found.index.counts, batch_size=3, shuffle_buffer=0, n_ranks=2, n_workers=n_workers)
    # without a buffer rank 0 reads the first shards and rank 1 reads the last ones
    loaders = [PairLoader(found, order, rank=rank, on_fault="skip", max_faults=9, in_workers=False) for rank in (0, 1)]
    batches = [keys(loader) for loader in loaders]
    assert len(batches[0]) == len(batches[1]) == order.n_batches
    assert [loader.faults.in_epoch for loader in loaders] == [6, 0]


@pytest.mark.parametrize(
    ("n_workers", "n_used"),
    [
        *((0, n) for n in range(8)),
        *((1, n) for n in (1, 4, 7)),
        (4, 4),
        *(pytest.param(4, n, marks=pytest.mark.slow) for n in (1, 7)),
    ],
)
def test_a_resumed_run_replaces_the_same_clips_and_goes_on_counting(shard_folder, n_workers, n_used):
    spoil(shard_folder, "pair0001", "pair0002", "pair0009", "pair0020", "pair0021")
    settings = {"num_workers": n_workers, "drop_last": False, "batch_size": 3}
    loader = clips(shard_folder, **settings).train_dataloader()
    whole = keys(loader)
    first = clips(shard_folder, **settings)
    batches = iter(first.train_dataloader())
    used = keys(next(batches) for _ in range(n_used))
    second = clips(shard_folder, **settings)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    rest = second.train_dataloader()
    assert used + keys(rest) == whole
    assert rest.faults.in_epoch == loader.faults.in_epoch == 5
    assert rest.faults.reasons == loader.faults.reasons


def test_the_count_starts_again_with_an_epoch_and_the_limit_does_not(shard_folder):
    spoil(shard_folder, "pair0003", "pair0008")
    loader = clips(shard_folder, drop_last=False, max_faults=2).train_dataloader()
    for _ in range(3):
        assert len(keys(loader)) == 8
        assert loader.faults.in_epoch == 2
    assert len(loader.faults.reasons) == 2


def test_one_clip_more_than_the_limit_stops_the_run(shard_folder):
    spoil(shard_folder, "pair0003", "pair0008", "pair0012")
    loader = clips(shard_folder, drop_last=False, max_faults=2).train_dataloader()
    message = (
        r"^pairs-00000\d.tar: clip pair00\d\d cannot be decoded .*; that is clip 3 that .* data.max_faults allows 2$"
    )
    with pytest.raises(ShardError, match=message):
        keys(loader)


def test_every_left_out_clip_is_told_once(shard_folder, caplog):
    spoil(shard_folder, "pair0003", "pair0008")
    loader = clips(shard_folder, drop_last=False).train_dataloader()
    keys(loader), keys(loader)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert said[0].startswith("left out, another clip takes its place (1 of 10): pairs-00000")


def test_a_run_stops_when_no_clip_is_left(shard_folder):
    spoil(shard_folder, *(f"pair{k:04d}" for k in range(22)))
    with pytest.raises(ShardError, match=r"^pairs-00000\d.tar: clip pair00\d\d cannot be decoded"):
        keys(clips(shard_folder, max_faults=100).train_dataloader())


def test_training_and_validation_stop_where_nothing_else_is_asked(shard_folder):
    spoil(shard_folder, "pair0003")
    with pytest.raises(ShardError, match="pairs-000000.tar: clip pair0003 cannot be decoded"):
        keys(clips(shard_folder, on_fault="stop", drop_last=False).train_dataloader())
    with pytest.raises(ShardError, match="pairs-000000.tar: clip pair0003 cannot be decoded"):
        keys(clips(shard_folder, val_shards=str(shard_folder)).val_dataloader())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"on_fault": "ignore"}, "data.on_fault must be one of stop, skip; got 'ignore'"),
        ({"references": "other"}, "data.references must be one of stored, same_speaker, .*; got 'other'"),
        ({"max_faults": -1}, "data.max_faults must be at least 0; got -1"),
        ({"retries": -1}, "data.retries must be at least 0; got -1"),
    ],
)
def test_settings_that_do_not_exist_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PairedClips("somewhere", **settings)


def test_the_substitute_is_not_always_the_same_clip(shard_folder):
    spoil(shard_folder, "pair0003")
    whole = clips(shard_folder, drop_last=False, shuffle_buffer=30).train_dataloader()
    chosen = set()
    for epoch in range(12):
        whole.resume_at = Position(epoch, 0)
        seen = sum(keys(whole), [])
        chosen |= {key for key in seen if seen.count(key) == 2}
    assert len(chosen) > 5


def test_the_log_of_faults_is_kept_and_given_back():
    log = FaultLog(most=3)
    log.note(Fault("a.tar", "x", "a.tar: clip x is broken"))
    other = FaultLog(most=3)
    other.load_state_dict(json.loads(json.dumps(log.state_dict())))
    assert other == log
    assert torch.tensor(other.in_epoch) == 1
