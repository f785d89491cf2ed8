"""PairedClips gives every sample once per epoch, in one order however it is read, and resumes exactly."""

import warnings

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from idlora_pl.data.datamodule import PairedClips
from idlora_pl.data.loader import PairLoader
from idlora_pl.data.order import EpochOrder
from idlora_pl.data.samples import PairBatch, ShardError
from idlora_pl.data.stream import open_shards

Keys = list[list[str]]


def keys(batches) -> Keys:
    return [[meta["key"] for meta in batch.meta] for batch in batches]


def clips(folder, **settings) -> PairedClips:
    return PairedClips(str(folder), **{"batch_size": 4, "num_workers": 0, "shuffle_buffer": 5} | settings)


def run(*args, **settings) -> lightning.Trainer:
    """A silent trainer on the CPU."""
    warnings.filterwarnings("ignore", module="lightning")
    return lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, **settings
    )


class Listener(lightning.LightningModule):
    """Notes the keys of its training batches."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.seen: Keys = []

    def training_step(self, batch: PairBatch, index: int) -> torch.Tensor:
        self.seen += keys([batch])
        return self.weight * batch.target_audio.mean()

    def validation_step(self, batch: PairBatch, index: int) -> None:
        assert len(batch) <= 4

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("n_workers", [0, 2])
def test_every_sample_comes_once_per_epoch(shard_folder, n_workers):
    loader = clips(shard_folder, num_workers=n_workers, drop_last=False).train_dataloader()
    first, second = keys(loader), keys(loader)
    assert len(first) == len(loader) == 6
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == [f"pair{k:04d}" for k in range(22)]
    assert first != second


def test_every_sample_comes_once_on_two_nodes_with_two_workers_each(shard_folder):
    shards = open_shards(str(shard_folder))
    order = EpochOrder(shards.index.counts, batch_size=3, n_ranks=2, n_workers=2, drop_last=False)
    ranks = [keys(PairLoader(shards, order, rank=rank)) for rank in range(2)]
    assert len(ranks[0]) == len(ranks[1]) == 4
    assert sorted(sum(ranks[0] + ranks[1], [])) == [f"pair{k:04d}" for k in range(22)]


def test_the_order_is_a_function_of_the_seed(shard_folder):
    orders = [keys(clips(shard_folder, seed=seed).train_dataloader()) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("n_workers", [0, 2])
def test_samples_kept_in_memory_come_in_the_same_order(shard_folder, n_workers):
    streamed = clips(shard_folder, num_workers=n_workers).train_dataloader()
    kept = clips(shard_folder, num_workers=n_workers, cache=True).train_dataloader()
    for _ in range(2):
        pairs = list(zip(streamed, kept, strict=True))
        assert all(keys([one]) == keys([other]) for one, other in pairs)
        assert all(torch.equal(one.target_video, other.target_video) for one, other in pairs)


@pytest.mark.parametrize(("n_workers", "n_used"), [(0, 0), (0, 2), (0, 5), (2, 1), (2, 2), (2, 5)])
def test_a_resumed_loader_gives_the_samples_that_were_left(shard_folder, n_workers, n_used):
    whole = clips(shard_folder, num_workers=n_workers).train_dataloader()
    expected = keys(whole) + keys(whole)
    first = clips(shard_folder, num_workers=n_workers)
    batches = iter(first.train_dataloader())
    used = keys(next(batches) for _ in range(n_used))
    second = clips(shard_folder, num_workers=n_workers)
    second.load_state_dict(first.state_dict())
    loader = second.train_dataloader()
    left = keys(loader) + (keys(loader) if n_used < 5 else [])
    assert used + left == expected


@pytest.mark.parametrize(("n_steps", "accumulate", "cache"), [(3, 1, False), (5, 1, True), (6, 1, True), (3, 2, True)])
def test_a_resumed_training_sees_what_an_uninterrupted_one_sees(shard_folder, tmp_path, n_steps, accumulate, cache):
    def data() -> PairedClips:
        return clips(shard_folder, num_workers=2, cache=cache, val_shards=str(shard_folder))

    settings = {"accumulate_grad_batches": accumulate, "max_epochs": -1}
    whole, before, after = Listener(), Listener(), Listener()
    run(max_steps=8, enable_checkpointing=False, **settings).fit(whole, datamodule=data())
    keep = ModelCheckpoint(tmp_path, filename="kept", every_n_train_steps=n_steps)
    run(max_steps=n_steps, callbacks=[keep], **settings).fit(before, datamodule=data())
    run(max_steps=8, enable_checkpointing=False, **settings).fit(
        after, datamodule=data(), ckpt_path=tmp_path / "kept.ckpt"
    )
    assert before.seen + after.seen == whole.seen
    assert torch.equal(after.weight, whole.weight)


def test_validation_reads_all_samples_in_their_order_every_time(shard_folder):
    loader = clips(shard_folder, val_shards=str(shard_folder)).val_dataloader()
    for _ in range(2):
        assert sum(keys(loader), []) == [f"pair{k:04d}" for k in range(22)]
    assert clips(shard_folder).val_dataloader() == []


def test_a_missing_shard_set_is_noticed_before_training(shard_folder, tmp_path):
    with pytest.raises(ShardError, match=r"shard folder .*nowhere does not exist"):
        clips(shard_folder, val_shards=str(tmp_path / "nowhere")).setup("fit")


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_corrupt_shard_stops_training_with_one_sentence(shard_folder, n_workers):
    path = shard_folder / "pairs-000001.tar"
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(ShardError, match=r"^pairs-000001.tar[^\n]*$"):
        keys(clips(shard_folder, num_workers=n_workers).train_dataloader())


def test_a_checkpoint_of_another_order_is_refused(shard_folder):
    first = clips(shard_folder)
    next(iter(first.train_dataloader()))
    second = clips(shard_folder, batch_size=2)
    second.load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match="made with data batch_size = 4, this run has 2; resume with the same"):
        second.train_dataloader()


@pytest.mark.parametrize("n_workers", [1, 2, 3, 4, 7])
def test_workers_that_read_ahead_over_epochs_keep_the_order(shard_folder, n_workers):
    settings = {"num_workers": n_workers, "drop_last": False, "batch_size": 4}
    loader = clips(shard_folder, **settings).train_dataloader()
    assert loader.ahead
    found = [keys(loader) for _ in range(4)]
    loader.close()
    kept = clips(shard_folder, **settings, cache=True).train_dataloader()
    assert found == [keys(kept) for _ in range(4)]


def test_an_epoch_that_is_left_early_does_not_disturb_the_next(shard_folder):
    loader = clips(shard_folder, num_workers=2).train_dataloader()
    kept = clips(shard_folder, num_workers=2, cache=True).train_dataloader()
    for n_used in (2, 5, 1):
        assert keys(b for _, b in zip(range(n_used), loader, strict=False)) == keys(kept)[:n_used]
    assert keys(loader) == keys(kept)
