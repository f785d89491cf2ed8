"""The clips that a run generates, and where they are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from idlora_pl.media import Clip, MediaError, write_clip
from idlora_pl.media.sound import UnusableSoundError
from idlora_pl.results.scores_file import read_lines

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


def refuse_made(folder: Path, names: Sequence[str], scores: Path) -> None:
    """Raise ValueError when clips would be replaced, or others would stand beside the scores of earlier ones.

    Args:
        folder: Where the clips go.
        names: Of their files.
        scores: A scores.jsonl, which need not exist.
    """
    paths = [folder / name for name in names]
    fix = "give --run another folder, or remove the clips and their scores"
    if made := [path for path in paths if path.exists()]:
        more = f" and {len(made) - 1} more of {len(paths)} clips" if len(made) > 1 else ""
        raise ValueError(f"{made[0]}{more} of an earlier command would be replaced; {fix}")
    if not scores.is_file():
        return
    noted = [row.notes["clip"] for row in read_lines(scores) if "clip" in row.notes]
    scored = {(scores.parent / clip).resolve() for clip in noted}
    if stale := [path for path in paths if path.resolve() in scored]:
        raise ValueError(f"{scores} has scores of an earlier clip {stale[0]}, which is gone; {fix}")
