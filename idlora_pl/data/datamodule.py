"""Batches of training pairs for Lightning, in an order that a resumed run continues."""

from dataclasses import asdict
from typing import Any

import torch.distributed as dist
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from idlora_pl.data.index import ShardIndex
from idlora_pl.data.loader import PairLoader, Position
from idlora_pl.data.order import EpochOrder, Ref
from idlora_pl.data.prompts import prompt_loader, read_prompts
from idlora_pl.data.samples import PairSample, ShardError
from idlora_pl.data.stream import ShardSet, open_shards


class PairedClips(LightningDataModule):
    """Batches of (target, voice reference, prompt) from a shard set.

    The order of an epoch is a function of `seed` and the epoch (and of `batch_size`, `num_workers`,
    `shuffle_buffer` and the number of processes). The position is part of Lightning's checkpoint: a resumed
    run sees exactly the samples that were left. Shapes, precision and origin of the samples are in `index`.
    """

    def __init__(
        self,
        shards: str | None = None,
        val_shards: str | None = None,
        prompts: str | None = None,
        batch_size: int = 4,
        num_workers: int = 2,
        shuffle_buffer: int = 256,
        seed: int = 0,
        drop_last: bool = True,
        cache: bool = False,
        prompt_seed: int = 42,
    ) -> None:
        """Remember the settings; nothing is opened before `setup`.

        Args:
            shards: folder of a shard set, or a brace pattern such as "data/pairs-{000000..000007}.tar".
            val_shards: the same for held-out pairs; None validates nothing.
            prompts: prompt file for `predict` and `test`; see `idlora_pl.data.prompts`.
            batch_size: pairs per step and process.
            num_workers: reading processes; 0 reads in the training process.
            shuffle_buffer: samples that each worker holds to draw from (about 9 MB each at full size);
                0 keeps the order of the shards.
            seed: of the order.
            drop_last: whether an incomplete last batch is left out of training.
            cache: decode every sample once and keep all in memory, in the same order; for small sets.
            prompt_seed: entry i of `prompts` without a seed of its own is sampled with prompt_seed + i; the
                command line sets it to `model.sampling.seed`.
        """
        super().__init__()
        self.shards, self.val_shards, self.prompts = shards, val_shards, prompts
        self.batch_size, self.num_workers, self.shuffle_buffer = batch_size, num_workers, shuffle_buffer
        self.seed, self.drop_last, self.cache = seed, drop_last, cache
        self.prompt_seed = prompt_seed
        self._entries: list[dict[str, Any]] = []
        self._open: dict[str, ShardSet] = {}
        self._cached: dict[str, dict[Ref, PairSample]] = {}
        self._training: PairLoader | None = None
        self._restored: dict[str, Any] | None = None

    @property
    def index(self) -> ShardIndex:
        """What the training shards hold."""
        return self._shard_set(self._needed("shards", self.shards)).index

    @property
    def indices(self) -> dict[str, ShardIndex]:
        """What the shard sets that `setup` has opened hold, by their place."""
        return {name: found.index for name, found in self._open.items()}

    def setup(self, stage: str | None = None) -> None:
        """Open the shard sets or the prompt file, so that a missing one is noticed before anything runs."""
        if stage in ("predict", "test"):
            self._entries = read_prompts(self._needed("prompts", self.prompts), seed=self.prompt_seed)
            return
        if stage == "validate":
            self._shard_set(self._needed("val_shards", self.val_shards))
            return
        self._shard_set(self._needed("shards", self.shards))
        if self.val_shards is not None:
            self._shard_set(self.val_shards)

    def train_dataloader(self) -> PairLoader:
        """Return the loader of training batches; it continues where a loaded checkpoint stood."""
        loader = self._loader(self._needed("shards", self.shards), self.shuffle_buffer, self.drop_last)
        if self.trainer is not None:
            trainer = self.trainer
            loader.current_epoch = lambda: trainer.current_epoch
        if self._restored is not None:
            _refuse_other_order(self._restored["order"], loader.order)
            loader.resume_at = Position(self._restored["epoch"], self._restored["batches"])
            self._restored = None
        self._training = loader
        return loader

    def val_dataloader(self) -> PairLoader | list[PairLoader]:
        """Return the loader of held-out batches, always in the order of the shards."""
        return [] if self.val_shards is None else self._loader(self.val_shards, 0, False)

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the loader of prompt entries, `batch_size` at a time."""
        return prompt_loader(self._entries, self.batch_size)

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the same loader: a test generates the entries and scores them."""
        return self.predict_dataloader()

    @staticmethod
    def _needed(name: str, value: str | None) -> str:
        """Return a setting that this subcommand cannot do without."""
        if value is None:
            raise ShardError(f"data.{name} is not set; give --data.{name} PATH")
        return value

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the training shards, for a checkpoint."""
        if self._training is None or self._training.position.epoch < 0:
            return {}
        return asdict(self._training.position) | {"order": asdict(self._training.order)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a position that `state_dict` returned."""
        self._restored = state_dict or None

    def _shard_set(self, shards: str) -> ShardSet:
        if shards not in self._open:
            self._open[shards] = open_shards(shards)
        return self._open[shards]

    def _loader(self, shards: str, shuffle_buffer: int, drop_last: bool) -> PairLoader:
        found = self._shard_set(shards)
        distributed = dist.is_available() and dist.is_initialized()
        order = EpochOrder(
            found.index.counts,
            self.batch_size,
            shuffle_buffer,
            self.seed,
            dist.get_world_size() if distributed else 1,
            max(1, self.num_workers),
            drop_last,
        )
        if self.cache and shards not in self._cached:
            every = [(shard, k) for shard, count in enumerate(order.counts) for k in range(count)]
            self._cached[shards] = dict(found.read(every))
        return PairLoader(
            found,
            order,
            rank=dist.get_rank() if distributed else 0,
            in_workers=self.num_workers > 0,
            cached=self._cached.get(shards),
        )


def _refuse_other_order(saved: dict[str, Any], order: EpochOrder) -> None:
    """Raise ValueError when a checkpoint's order cannot be continued."""
    for name, value in asdict(order).items():
        if _tuple_if_list(saved[name]) != value:
            raise ValueError(
                f"the checkpoint was made with data {name} = {saved[name]}, this run has {value}; "
                "resume with the same data settings"
            )


def _tuple_if_list(value: Any) -> Any:
    """Return a list as a tuple, as JSON-like checkpoints may turn one into the other."""
    return tuple(value) if isinstance(value, list) else value
