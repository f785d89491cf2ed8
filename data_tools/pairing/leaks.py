"""What is in two splits at once: speakers, videos, files, recordings, and people whose voices or faces are alike.

Letters: N clips, D embedding size, K speakers.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_tools.verb.lists import Row

CERTAIN = ("speaker", "video", "same_file", "same_sound")
"""Kinds that are leaks; `same_voice` and `same_face` are suspicions, which a person has to look at."""
_BLOCK = 1024

LeakRule = Literal["refuse", "refuse_suspected", "report"]
"""What of them ends a run."""


@dataclass(frozen=True, eq=False)
class View:
    """What one network says about all clips.

    Attributes:
        kind: "same_sound", "same_voice" or "same_face".
        name: of the network.
        vectors: (N, D), a row of NaN for a clip that it cannot read.
        threshold: cosine from which two clips (of a voice or a face: two speakers) are the same.
    """

    kind: str
    name: str
    vectors: np.ndarray
    threshold: float

    def units(self) -> np.ndarray:
        """Return the vectors (N, D) at length 1."""
        vectors = self.vectors.astype(np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def find_leaks(rows: Sequence[Row], hashes: Sequence[str], views: Iterable[View]) -> list[Row]:
    """List what is in two splits.

    Args:
        rows: N clips with key, speaker, source and split.
        hashes: N hashes of their files.
        views: what networks say.
    """
    found = _named(rows, "speaker", [_plain(row["speaker"]) for row in rows])
    found += _named(rows, "video", [row["source"] for row in rows])
    found += _named(rows, "same_file", hashes)
    for view in views:
        found += _same_sounds(rows, view) if view.kind == "same_sound" else _alike(rows, view)
    return found


def _plain(speaker: object) -> str:
    """Return a name as benchmarks compare it: without case and without a leading "speaker_"."""
    return str(speaker).strip().lower().removeprefix("speaker_")


def _named(rows: Sequence[Row], kind: str, values: Sequence[str]) -> list[Row]:
    members: dict[str, list[Row]] = {}
    for row, value in zip(rows, values, strict=True):
        members.setdefault(value, []).append(row)
    return [
        {"kind": kind, "splits": sorted(splits), "what": value, "keys": [row["key"] for row in shared][:10]}
        for value, shared in members.items()
        if len(splits := {row["split"] for row in shared}) > 1
    ]


def _same_sounds(rows: Sequence[Row], view: View) -> list[Row]:
    """Compare all clips of different splits, a block at a time."""
    units, splits = np.nan_to_num(view.units()), np.array([row["split"] for row in rows])
    found: list[Row] = []
    for begin in range(0, len(rows), _BLOCK):
        alike = units[begin : begin + _BLOCK] @ units[begin:].T
        apart = splits[begin : begin + _BLOCK, None] != splits[None, begin:]
        for one, other in np.argwhere(np.triu((alike >= view.threshold) & apart, 1)).tolist():
            pair = (rows[begin + one], rows[begin + other])
            found.append(_alike_row(view, pair, "keys", [row["key"] for row in pair], float(alike[one, other])))
    return found


def _alike(rows: Sequence[Row], view: View) -> list[Row]:
    """Compare all speakers of different splits by the mean cosine of their clips."""
    units = view.units()
    people: dict[tuple[str, str], list[int]] = {}
    for index, row in enumerate(rows):
        if np.isfinite(units[index]).all():
            people.setdefault((str(row["speaker"]), row["split"]), []).append(index)
    if not people:
        return []
    means = np.stack([units[members].mean(0) for members in people.values()])
    owners = [{"speaker": speaker, "split": split} for speaker, split in people]
    splits = np.array([owner["split"] for owner in owners])
    alike = means @ means.T
    apart = (splits[:, None] != splits[None]) & (alike >= view.threshold)
    return [
        _alike_row(view, (owners[i], owners[j]), "speakers", [owners[i]["speaker"], owners[j]["speaker"]], alike[i, j])
        for i, j in np.argwhere(np.triu(apart, 1)).tolist()
    ]


def _alike_row(view: View, pair: Sequence[Row], name: str, who: Sequence[str], similarity: float) -> Row:
    splits = [row["split"] for row in pair]
    about = {"by": view.name, "similarity": round(float(similarity), 4), "threshold": view.threshold}
    return {"kind": view.kind, "splits": splits, name: list(who)} | about


def leak_report(rows: Sequence[Row], found: Sequence[Row], views: Sequence[View], unchecked: Mapping[str, str]) -> Row:
    """Return leaks.json: how big the splits are, what was compared, what was found, and what was not looked for."""
    splits = {
        split: {
            "clips": len(members),
            "speakers": len({row["speaker"] for row in members}),
            "videos": len({row["source"] for row in members}),
        }
        for split in sorted({row["split"] for row in rows})
        if (members := [row for row in rows if row["split"] == split])
    }
    counts = Counter(row["kind"] for row in found)
    checked: Row = {kind: {"found": counts[kind]} for kind in CERTAIN[:3]}
    for view in views:
        unseen = int(np.isnan(view.vectors).any(1).sum())
        about = {"by": view.name, "threshold": view.threshold, "clips_not_seen": unseen}
        checked[view.kind] = {"found": counts[view.kind]} | about
    return {"splits": splits, "checked": checked, "not_checked": dict(unchecked), "found": list(found)}
