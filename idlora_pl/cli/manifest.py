"""`idlora manifest`: make the manifest of a benchmark from a folder, and check one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from idlora_pl.benchmark.items import Item, read_prompts
from idlora_pl.benchmark.layouts import check_layout, completeness
from idlora_pl.benchmark.manifest import write_manifest
from idlora_pl.evaluation.disjoint import compare_speakers


def make(folder: Path, output: Path, *, name: str = "", first_frames: bool = False) -> None:
    """Write the manifest of a folder: captions.json, <id>/reference.*, <id>/target.*, <id>/<method>.*.

    Args:
        folder: The folder.
        output: manifest.json to write; its paths are relative to it.
        name: Name of the benchmark; the folder's by default.
        first_frames: Also write the first frame of each target as png.
    """
    items = write_manifest(folder, output, name=name, first_frames=first_frames)
    Console(soft_wrap=True).print(f"wrote {output}: {len(items)} items")
    _print_contents(items)


def check(file: Path, *, training: Path | None = None) -> None:
    """Count items and speakers, and compare them with the paper's splits and with a training set.

    Args:
        file: manifest.json.
        training: Training set (shards, manifest or list) whose speakers must be others.
    """
    items = read_prompts(file, use="scoring")
    _print_contents(items)
    if training is None:
        return
    found = compare_speakers(items, training)
    Console(soft_wrap=True).print(found.sentence(), highlight=False)
    if found.leaked:
        sys.exit(f"idlora: speakers of {file} are in the training set: {', '.join(found.leaked)}")
    if not found.is_shown:
        sys.exit(
            f"idlora: it is not shown that speakers of {file} are strangers to {training}; name "
            "the speaker of each item and of each training sample under 'speaker'"
        )


VERBS = {"make": make, "check": check}


def _print_contents(items: Sequence[Item]) -> None:
    """Refuse items that contradict their split; print how many there are, and the clips of each method."""
    console = Console(soft_wrap=True)
    check_layout(items)
    for line in completeness(items):
        console.print(line, highlight=False)
    for method in sorted({method for item in items for method in item.clips}):
        there = sum(method in item.clips and item.clips[method].is_file() for item in items)
        console.print(f"method {method}: {there} of {len(items)} clips", highlight=False)
