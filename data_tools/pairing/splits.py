"""Who is trained on and who is tested on: speakers are dealt out whole, with everybody they share a video with.

A pure function of the clips, the shares and a seed; the order of the list does not matter. And the benchmarks of the
test split: easy, where voice and target are of one video, and hard, where they are of two.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data_tools.pairing.pairs import ClipRecord, PairRule
from data_tools.verb.lists import Row
from idlora_pl.benchmark.manifest import keep_manifest
from idlora_pl.media.clip import MediaError
from idlora_pl.media.reading import read_clip
from idlora_pl.media.writing import write_image

SPLITS = ("train", "val", "test")


def parse_shares(text: str) -> dict[str, float]:
    """Read the shares of train, val and test.

    Raises:
        ValueError: they are not three numbers of at least 0 that sum to 1, or there is nobody to train on.

    Example:
        >>> parse_shares("0.9,0.1,0")
        {'train': 0.9, 'val': 0.1}
    """
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6 or not shares[0]:
        raise ValueError(
            f"split must be three shares of train, val, test that sum to 1, as 0.9,0.05,0.05; got '{text}'"
        )
    return {name: share for name, share in zip(SPLITS, shares, strict=True) if share}


def split_speakers(records: Sequence[ClipRecord], shares: Mapping[str, float], *, seed: int = 0) -> dict[str, str]:
    """Deal speakers out to splits, so that none of them and no video is in two.

    Every split gets somebody; beyond that the clips come as near to the shares as whole speakers can. Speakers are
    dealt in an order drawn from the seed.

    Args:
        records: clips with known speakers.
        shares: of the clips, by name of the split; they sum to 1.
        seed: of the order.

    Returns:
        The split of each speaker.

    Raises:
        ValueError: there are fewer people who share no video than splits.

    Example:
        >>> clips = [ClipRecord(f"{who}{k}", who, f"{who}{k}") for who in "abcd" for k in range(3)]
        >>> split_speakers(clips, {"train": 0.5, "val": 0.25, "test": 0.25})
        {'a': 'val', 'b': 'test', 'c': 'train', 'd': 'train'}
    """
    together = _who_share_videos(records)
    if len(together) < len(shares):
        raise ValueError(
            f"{len(shares)} splits need as many speakers who share no video, there are {len(together)}; add speakers "
            "or leave out a split"
        )
    size = Counter(record.speaker for record in records)
    missing = {name: share * len(records) for name, share in shares.items()}
    empty = dict.fromkeys(shares)
    found: dict[str, str] = {}
    order = sorted(together, key=lambda group: hashlib.sha256(f"{seed}\0{group[0]}".encode()).digest())
    for left, group in zip(range(len(order), 0, -1), order, strict=True):
        open_ = list(empty) if left <= len(empty) else list(shares)
        name = max(open_, key=missing.__getitem__)
        empty.pop(name, None)
        missing[name] -= sum(size[speaker] for speaker in group)
        found |= dict.fromkeys(group, name)
    return dict(sorted(found.items()))


def _who_share_videos(records: Sequence[ClipRecord]) -> list[list[str]]:
    """Return groups of speakers, each group sorted; a video with clips of two speakers ties them together."""
    speakers = sorted({record.speaker for record in records})
    sources = sorted({record.source for record in records})
    rows = np.searchsorted(speakers, [record.speaker for record in records])
    columns = np.searchsorted(sources, [record.source for record in records]) + len(speakers)
    n_nodes = len(speakers) + len(sources)
    graph = coo_array((np.ones(len(records)), (rows, columns)), shape=(n_nodes, n_nodes))
    _, labels = connected_components(graph, directed=False)
    groups: dict[int, list[str]] = {}
    for speaker, label in zip(speakers, labels, strict=False):
        groups.setdefault(int(label), []).append(speaker)
    return list(groups.values())


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
