"""`idlora manifest`: make the manifest of a benchmark from a folder, and check one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from idlora_pl.benchmark.items import read_prompts
from idlora_pl.benchmark.layouts import check_layout, completeness
from idlora_pl.benchmark.manifest import write_manifest
from idlora_pl.evaluation.disjoint import compare_speakers


def manifest(arguments: list[str]) -> None:
    """Make a manifest from a folder with captions.json, or check one against the paper's splits and a training set."""
    parser = argparse.ArgumentParser(prog="idlora manifest", description=manifest.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    make = verbs.add_parser(
        "make", help="write the manifest of a folder: captions.json, <id>/reference.*, <id>/target.*"
    )
    make.add_argument("folder", type=Path)
    make.add_argument("output", type=Path, help="manifest.json to write; its paths are relative to it")
    make.add_argument("--name", default="", help="name of the benchmark; the folder's by default")
    make.add_argument("--first-frames", action="store_true", help="also write the first frame of each target as png")
    check = verbs.add_parser("check", help="count items and speakers, and compare them with the paper's splits")
    check.add_argument("file", type=Path)
    check.add_argument("--training", type=Path, help="training set whose speakers must be others")
    options = parser.parse_args(arguments)
    console = Console(soft_wrap=True)
    if options.verb == "make":
        items = write_manifest(options.folder, options.output, name=options.name, first_frames=options.first_frames)
        console.print(f"wrote {options.output}: {len(items)} items")
    else:
        items = read_prompts(options.file, use="scoring")
    check_layout(items)
    for line in completeness(items):
        console.print(line, highlight=False)
    methods = sorted({method for item in items for method in item.clips})
    for method in methods:
        there = sum(method in item.clips and item.clips[method].is_file() for item in items)
        console.print(f"method {method}: {there} of {len(items)} clips", highlight=False)
    if options.verb == "check" and options.training is not None:
        found = compare_speakers(items, options.training)
        console.print(found.sentence(), highlight=False)
        if found.leaked:
            sys.exit(f"idlora: speakers of {options.file} are in the training set: {', '.join(found.leaked)}")
        if not found.is_shown:
            sys.exit(
                f"idlora: it is not shown that speakers of {options.file} are strangers to {options.training}; name "
                "the speaker of each item and of each training sample under 'speaker'"
            )
