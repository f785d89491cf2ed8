"""What a checkpoint holds: the adapter, its recipe and what the training was set to, and nothing of the frozen base.

And what another setting means for a run that goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from idlora_pl.ltx2.lora import load_lora_state_dict, lora_state_dict
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.in_context import InContext


def adapter_state(model: LTX2, in_context: InContext) -> dict[str, Any]:
    """Return the entries of a checkpoint: the adapter's tensors on the CPU, and the recipe."""
    tensors = {name: weight.detach().cpu() for name, weight in lora_state_dict(model).items()}
    return {"state_dict": tensors, "in_context": in_context.to_metadata()}


def restore_adapter(checkpoint: Mapping[str, Any], model: LTX2, in_context: InContext) -> None:
    """Load the adapter of a checkpoint into a model.

    Args:
        checkpoint: What `idlora fit` wrote.
        model: With an adapter of the same shape.
        in_context: The recipe of this run.

    Raises:
        ValueError: If the checkpoint holds no adapter, or was trained with another recipe.
    """
    if "in_context" not in checkpoint:
        raise ValueError("checkpoint holds no ID-LoRA adapter; give ckpt_path a file that `idlora fit` wrote")
    stored = InContext.from_metadata(checkpoint["in_context"])
    if stored != in_context:
        raise ValueError(
            f"checkpoint was trained with {stored}, this run is configured with {in_context}: "
            "resume with the config.yaml of the run that wrote it"
        )
    load_lora_state_dict(model, checkpoint["state_dict"])


Settings = Mapping[str, Any]
"""Values by the keys of a configuration, as `IDLoRA.settings` returns them."""

_ADAPTER = ("model.base", "model.lora.rank", "model.lora.alpha", "model.lora.targets")
"""What an adapter's numbers mean nothing without."""
_FIXED = (*_ADAPTER, "model.seed", "model.optimizer.state_bits", "trainer.accumulate_grad_batches")
"""A run cannot go on with another value; the recipe and the data say so themselves."""


def continued(checkpoint: Mapping[str, Any], now: Settings) -> str:
    """Let a run go on from a checkpoint with its own settings, and return a sentence that names those that are others.

    The learning rate, its schedule and length, weight decay, losses, chances and precision take effect from here on.
    What Lightning restores later is changed in the checkpoint as it is in memory.

    Args:
        checkpoint: What `IDLoRA` wrote.
        now: Of this run.

    Raises:
        ValueError: If a setting cannot change amid a run, or nothing is left to train.
    """
    saved, max_steps = checkpoint.get("settings", {}), now["trainer.max_steps"]
    _refuse_others(saved, now, _FIXED, "this run has {}; resume with the same, or begin a new run")
    step = checkpoint.get("global_step", 0)
    if 0 <= max_steps <= step:
        raise ValueError(
            f"the checkpoint is of step {step} and trainer.max_steps is {max_steps}, so nothing is left to "
            f"train; give --trainer.max_steps more than {step}"
        )
    for state in checkpoint.get("optimizer_states", []):
        for group in state["param_groups"]:
            group.update({name: now[f"model.optimizer.{name}"] for name in ("betas", "weight_decay")})
    other = [
        f"{name} {saved[name]} -> {now.get(name)}" for name in saved if _plain(saved[name]) != _plain(now.get(name))
    ]
    return f"from step {step} on with other settings: {', '.join(other)}" if other else ""


def refuse_other_adapter(checkpoint: Mapping[str, Any], now: Settings) -> None:
    """Raise ValueError when a command that does not train would take a checkpoint's adapter for one of another kind."""
    fix = "this command has {}; give -c the config.yaml of its run"
    _refuse_others(checkpoint.get("settings", {}), now, _ADAPTER, fix)


def _refuse_others(saved: Settings, now: Settings, names: Iterable[str], said: str) -> None:
    for name in names:
        if name in saved and _plain(saved[name]) != _plain(now.get(name)):
            raise ValueError(f"the checkpoint was made with {name} = {saved[name]}, {said.format(now.get(name))}")


def _plain(value: Any) -> Any:
    """Return a list as a tuple: a checkpoint may turn one into the other."""
    return tuple(value) if isinstance(value, list) else value
