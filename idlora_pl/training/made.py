"""The clips that a run generates, and where they are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from idlora_pl.media import Clip, MediaError, write_clip
from idlora_pl.media.sound import UnusableSoundError

Made = Sequence[tuple[dict[str, Any], Clip]]
"""Entries of a prompt file with what was generated from them."""


def run_folder(trainer: L.Trainer) -> Path:
    """Return the folder in which a run keeps everything it writes."""
    return Path(trainer.default_root_dir)


def write_made(made: Made, folder: Path, scale: int) -> list[str]:
    """Write generated clips as `<output_name>.mp4`, labelled as AI-generated.

    One that cannot be written does not keep the others from it.

    Returns:
        A sentence for every clip whose sound is not made of numbers, and which was therefore not written.

    Raises:
        MediaError: Files cannot be written, as on a full disk; all others of `made` were tried before.
    """
    unusable, failed = [], []
    for entry, clip in made:
        path = folder / f"{entry['output_name']}.mp4"
        try:
            write_clip(clip, path, scale=scale, metadata={"prompt": entry["prompt"], "seed": str(entry["seed"])})
        except UnusableSoundError as error:
            unusable.append(str(error))
        except (ValueError, OSError) as error:
            failed.append(str(error) if str(path) in str(error) else f"{path} cannot be written ({error})")
    if failed:
        raise MediaError(f"{len(failed)} of {len(made)} clips were not written: {'; '.join([*failed, *unusable])}")
    return unusable
