"""Batches of training pairs for Lightning, in an order that a resumed run continues."""

from collections.abc import Sequence
from math import lcm
from typing import Any, get_args

import torch.distributed as dist
from lightning import LightningDataModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch.utils.data import DataLoader

from idlora_pl.benchmark.items import Item, prompt_loader, read_prompts, refuse_unusable
from idlora_pl.data.addresses import is_remote
from idlora_pl.data.batches import Memory, OnFault
from idlora_pl.data.loader import PairLoader, continue_from, state_of
from idlora_pl.data.order import EpochOrder
from idlora_pl.data.samples import ShardError
from idlora_pl.data.shards import ShardIndex
from idlora_pl.data.stream import ShardSet, open_shards
from idlora_pl.data.voices import References, VoiceBank, voices_of
from idlora_pl.method.noise import checked_seed


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
        references: References = "stored",
        on_fault: OnFault = "stop",
        max_faults: int = 10,
        retries: int = 2,
    ) -> None:
        """Remember the settings; nothing is opened before `setup`.

        Args:
            shards: folder of a shard set, on disk or behind http(s)://, s3://, hf:// or gs://, or a brace pattern of
                its tars such as "data/pairs-{000000..000007}.tar" or "pipe:ssh host cat d/pairs-{000000..000007}.tar".
            val_shards: the same for held-out pairs; None validates nothing.
            prompts: prompt file for `predict` and `test`; see `idlora_pl.benchmark.items`.
            batch_size: pairs per step and process.
            num_workers: reading processes; 0 reads in the training process.
            shuffle_buffer: samples that each worker holds to draw from (about 9 MB each at full size);
                0 keeps the order of the shards.
            seed: of the order.
            drop_last: whether an incomplete last batch is left out of training, and with accumulated batches an
                incomplete last step; other samples in every epoch.
            cache: decode every sample once and keep all in memory, in the same order; for small sets.
            prompt_seed: entry i of `prompts` without a seed of its own is sampled with prompt_seed + i; the
                command line sets it to `model.sampling.seed`.
            references: "stored" keeps the voice reference of the shards; every other rule draws one anew in every
                epoch of training, among the set's clips of the same speaker: docs/streaming.md.
            on_fault: "stop" ends training at a clip that cannot be read, "skip" gives another one in its place.
            max_faults: how many different clips each process may replace in a run before it stops.
            retries: how often a tar behind a URL or command is opened again when the connection fails.
        """
        for name, value, known in (("references", references, References), ("on_fault", on_fault, OnFault)):
            if value not in get_args(known):
                raise ValueError(f"data.{name} must be one of {', '.join(get_args(known))}; got '{value}'")
        for name, number in (("max_faults", max_faults), ("retries", retries)):
            if number < 0:
                raise ValueError(f"data.{name} must be at least 0; got {number}")
        checked_seed(seed, "data.seed")
        checked_seed(prompt_seed, "data.prompt_seed, which is model.sampling.seed,")
        super().__init__()
        self.shards, self.val_shards, self.prompts = shards, val_shards, prompts
        self.batch_size, self.num_workers, self.shuffle_buffer = batch_size, num_workers, shuffle_buffer
        self.seed, self.drop_last, self.cache = seed, drop_last, cache
        self.prompt_seed = prompt_seed
        self.references, self.on_fault, self.max_faults, self.retries = references, on_fault, max_faults, retries
        self._items: list[Item] = []
        self._open: dict[str, ShardSet] = {}
        self._cached: dict[str, Memory] = {}
        self._bank: VoiceBank | None = None
        self._training: PairLoader | None = None
        self._restored: dict[str, Any] | None = None

    @property
    def index(self) -> ShardIndex:
        """What the training shards hold."""
        return self._shard_set(self._needed("shards", self.shards)).index

    @property
    def items(self) -> Sequence[Item]:
        """What `predict` and `test` generate, once `setup` has read it."""
        return self._items

    @property
    def indices(self) -> dict[str, ShardIndex]:
        """What the shard sets that `setup` has opened hold, by their place."""
        return {name: found.index for name, found in self._open.items()}

    def prepare_data(self) -> None:
        """Collect the voices of a set on disk, once per node, where references are drawn."""
        if self.shards is not None and self.references != "stored" and not is_remote(self.shards):
            self._voices(self.shards)

    def setup(self, stage: str | None = None) -> None:
        """Open the shard sets or what the prompt file names, so that what is wrong is noticed before anything runs."""
        if stage in ("predict", "test"):
            self._items = read_prompts(self._needed("prompts", self.prompts), seed=self.prompt_seed)
            refuse_unusable(self._items)
            return
        if stage != "validate":
            self._shard_set(self._needed("shards", self.shards))
        if stage == "validate" or self.val_shards is not None:
            self._shard_set(self._needed("val_shards", self.val_shards))

    def train_dataloader(self) -> PairLoader:
        """Return the loader of training batches; it continues where a loaded checkpoint stood."""
        shards = self._needed("shards", self.shards)
        each = 1 if self.trainer is None else batches_a_step(self.trainer)
        loader = self._loader(shards, self.shuffle_buffer, self.drop_last, each)
        loader.on_fault, loader.ahead = self.on_fault, loader.in_workers
        loader.change = None if self.references == "stored" else self._voices(shards).redrawn
        if (trainer := self.trainer) is not None:
            loader.current_epoch = lambda: trainer.current_epoch
        if self._restored is not None:
            continue_from(self._restored, loader, self.index, {"references": self.references})
            self._restored = None
        self._training = loader
        return loader

    def teardown(self, stage: str) -> None:
        """End the workers, which read ahead."""
        if self._training is not None:
            self._training.close()

    def val_dataloader(self) -> PairLoader | list[PairLoader]:
        """Return the loader of held-out batches, always in the order of the shards."""
        return [] if self.val_shards is None else self._loader(self.val_shards, 0, False)

    def predict_dataloader(self) -> DataLoader[Item]:
        """Return the loader of the items of a prompt file, `batch_size` at a time."""
        return prompt_loader(self._items, self.batch_size)

    def test_dataloader(self) -> DataLoader[Item]:
        """Return the same loader: a test generates the items and scores them."""
        return self.predict_dataloader()

    @staticmethod
    def _needed(name: str, value: str | None) -> str:
        """Return a setting that this subcommand cannot do without."""
        if value is None:
            raise ShardError(f"data.{name} is not set; give --data.{name} PATH")
        return value

    @property
    def left_out(self) -> int | None:
        """Clips that this process replaced in the epoch so far; None where a fault stops training."""
        return None if self.on_fault == "stop" or self._training is None else self._training.faults.in_epoch

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the training shards and what was left out, for a checkpoint.

        With `on_fault` "skip" all processes must call this together, as Lightning does.
        """
        return {} if self._training is None else state_of(self._training, self.index, {"references": self.references})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a position that `state_dict` returned."""
        self._restored = state_dict or None

    def _shard_set(self, shards: str) -> ShardSet:
        if shards not in self._open:
            self._open[shards] = open_shards(shards, retries=self.retries)
        return self._open[shards]

    def _voices(self, shards: str) -> VoiceBank:
        """Return the voices of the training shards, of which every target may be given one."""
        if self._bank is None:
            self._bank = voices_of(self._shard_set(shards), self.references, seed=self.seed)
        return self._bank

    def _loader(self, shards: str, shuffle_buffer: int, drop_last: bool, each: int = 1) -> PairLoader:
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
            each,
        )
        if self.cache and shards not in self._cached:
            self._cached[shards] = Memory(found)
        return PairLoader(
            self._cached.get(shards, found),
            order,
            rank=dist.get_rank() if distributed else 0,
            in_workers=self.num_workers > 0,
            max_faults=self.max_faults,
        )


def batches_a_step(trainer: Trainer) -> int:
    """Return how many batches an optimiser step accumulates; a number that all divide, where it changes by epoch."""
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return 1
    schedules = [one.scheduling for one in trainer.callbacks if isinstance(one, GradientAccumulationScheduler)]  # type: ignore[attr-defined]
    return lcm(trainer.accumulate_grad_batches, *(number for schedule in schedules for number in schedule.values()))
