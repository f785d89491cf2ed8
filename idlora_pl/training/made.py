"""The clips that a run generates, and where they are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from idlora_pl.media import Clip, write_clip

Made = Sequence[tuple[dict[str, Any], Clip]]
"""Entries of a prompt file with what was generated from them."""


def run_folder(trainer: L.Trainer) -> Path:
    """Return the folder in which a run keeps everything it writes."""
    return Path(trainer.default_root_dir)


def write_made(made: Made, folder: Path, scale: int) -> list[Path]:
    """Write generated clips as `<output_name>.mp4`, labelled as AI-generated; return their paths."""
    paths = []
    for entry, clip in made:
        paths.append(folder / f"{entry['output_name']}.mp4")
        write_clip(clip, paths[-1], scale=scale, metadata={"prompt": entry["prompt"], "seed": str(entry["seed"])})
    return paths
