"""Benchmarks of the test split: easy, where voice and target are of one video, and hard, where they are of two."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_tools.verb.lists import Row
from idlora_pl.data.manifest import keep_manifest
from idlora_pl.data.pairs import PairRule
from idlora_pl.media import MediaError, read_clip, write_image

TEXTS = ("speaking_style", "environment_sounds")
LEVELS: dict[str, PairRule] = {"easy": "same_video", "hard": "cross_video"}
"""Rule of the pairs of each benchmark, as in the paper."""


def benchmark_item(pair: Row, split: str, list_path: Path, manifest: Path) -> Row:
    """Return a pair of a list as an item of a manifest; its first frame is written beside the manifest.

    Args:
        pair: of the list, with prompt, source and reference_source.
        split: name of the benchmark.
        list_path: the list, which the paths of the pair are relative to.
        manifest: the file to write.

    Raises:
        ValueError: the first frame cannot be read.
    """
    paths = {name: list_path.parent / pair[name] for name in ("target", "reference")}
    image = Path("first_frames") / f"{pair['key']}.png"
    try:
        write_image(read_clip(paths["target"], n_frames=1).frames[0], manifest.parent / image)
    except MediaError as error:
        raise ValueError(f"clip {pair['key']} has no first frame: {error}; leave it out of the list") from error
    about = ("speaker", "source", "reference_source", "environment", "language", "consent")
    item: dict[str, Any] = {"id": pair["key"], "split": split, "prompt": pair["prompt"], "first_frame": str(image)}
    item |= {name: os.path.relpath(path, manifest.parent) for name, path in paths.items()}
    item |= {name: pair[name] for name in about if pair.get(name)}
    if texts := {name: pair[name] for name in TEXTS if pair.get(name)}:
        item["caption"] = texts
    return item


def write_benchmarks(pairs: Mapping[str, Sequence[Row]], name: str, list_path: Path) -> dict[str, int]:
    """Write NAME_easy.json and NAME_hard.json beside a list of pairs; one without a pair is not written.

    Args:
        pairs: of the test split, by level.
        name: of the benchmark.
        list_path: the list of pairs.

    Returns:
        How many items each level has.
    """
    for level, found in pairs.items():
        split = f"{name}_{level}"
        manifest = list_path.with_name(f"{split}.json")
        if found:
            keep_manifest([benchmark_item(pair, split, list_path, manifest) for pair in found], manifest, split)
        else:
            manifest.unlink(missing_ok=True)
    return {level: len(found) for level, found in pairs.items()}
