"""Where training stands in its shards, as a checkpoint keeps it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch.distributed as dist

from idlora_pl.data.index import ShardIndex
from idlora_pl.data.loader import PairLoader, Position


def state_of(loader: PairLoader, index: ShardIndex, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the position of a loader, what decides its order, and what it left out; {} before the first batch.

    Args:
        loader: of training batches.
        index: what the shards hold.
        settings: what else decides which samples are seen.
    """
    if loader.position.epoch < 0:
        return {}
    state = asdict(loader.position) | {"order": asdict(loader.order), "settings": settings}
    state["shards"] = [[shard.name, shard.sha256] for shard in index.shards]
    if loader.on_fault == "skip":
        faults: list[Any] = [loader.faults.state_dict()] * loader.order.n_ranks
        if len(faults) > 1:  # each process left out other clips, and only one writes the checkpoint
            dist.all_gather_object(faults, loader.faults.state_dict())
        state["faults"] = faults
    return state


def continue_from(state: dict[str, Any], loader: PairLoader, index: ShardIndex, settings: dict[str, Any]) -> None:
    """Let a loader continue where `state_of` was called.

    Raises:
        ValueError: when its samples, or their order, are others.
    """
    _refuse_others({"batches_a_step": 1} | state["order"], asdict(loader.order))
    _refuse_other_shards(state.get("shards", []), index)
    _refuse_others(settings | state.get("settings", {}), settings)
    loader.resume_at = Position(state["epoch"], state["batches"])
    if "faults" in state:
        loader.faults.load_state_dict(state["faults"][loader.rank])


def _refuse_other_shards(saved: Sequence[Sequence[str]], index: ShardIndex) -> None:
    """Raise ValueError when shards of as many samples hold other ones; a checkpoint without checksums cannot tell."""
    for (name, sha256), shard in zip(saved, index.shards, strict=False):
        if sha256 != shard.sha256:
            raise ValueError(
                f"the checkpoint was made with other clips: its {name} has the sha256 {sha256[:12]}..., "
                f"{shard.name} of this run has {shard.sha256[:12]}...; resume with the same set, or begin a new run"
            )


def _refuse_others(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise ValueError when a checkpoint's order cannot be continued."""
    for name, value in now.items():
        if _tuple_if_list(saved[name]) != value:
            raise ValueError(
                f"the checkpoint was made with data {name} = {saved[name]}, this run has {value}; "
                "resume with the same data settings"
            )


def _tuple_if_list(value: Any) -> Any:
    """Return a list as a tuple, as JSON-like checkpoints may turn one into the other."""
    return tuple(value) if isinstance(value, list) else value
