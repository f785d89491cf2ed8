"""What a training run tells about itself in the adapter that it writes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback

from idlora_pl.data.datamodule import PairedClips
from idlora_pl.training.module import IDLoRA
from idlora_pl.training.run_config import SaveConfig


def run_facts(trainer: L.Trainer, module: IDLoRA) -> dict[str, str]:
    """Header entries of an adapter: the recipe, the run and what the training data say about consent.

    `config_sha256` is the checksum of the configuration that the run wrote, and missing when it has none. `consent` is
    what the shard set was written with (`data_tools.write_shards --consent`), and missing when it says nothing.
    """
    folder = Path(trainer.default_root_dir)
    facts = {"run": folder.resolve().name, "steps": str(trainer.global_step), "seed": str(module.seed)}
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    written = [callback.path for callback in callbacks if isinstance(callback, SaveConfig)]
    config = written[0] if written else folder / "config.yaml"
    if config.is_file():
        facts["config_sha256"] = hashlib.sha256(config.read_bytes()).hexdigest()
    data = getattr(trainer, "datamodule", None)
    if isinstance(data, PairedClips) and data.shards in data.indices:
        consent = data.indices[data.shards].settings.get("consent")
        facts |= {"consent": str(consent)} if consent else {}
    return module.in_context.to_metadata() | facts
