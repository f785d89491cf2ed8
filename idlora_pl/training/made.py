"""The clips that a run generates, and where they are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from idlora_pl.media import Clip, write_clip
from idlora_pl.report.scores_file import lines_of, parsed

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
    rows = [parsed(scores, number, line) for number, line in enumerate(lines_of(scores), start=1)]
    scored = {(scores.parent / row.notes["clip"]).resolve() for row in rows if "clip" in row.notes}
    if stale := [path for path in paths if path.resolve() in scored]:
        raise ValueError(f"{scores} has scores of an earlier clip {stale[0]}, which is gone; {fix}")
