"""Group clips into speakers: average linkage of cosine distances, with the user's labels kept.

Distances are in units of the threshold: 0 is the same direction, 1 is where two groups stop being one person's.
Letters: N clips, D embedding size, K speakers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import linkage, to_tree
from scipy.spatial.distance import squareform

UNKNOWN = 2.0
"""Distance of two clips that no network has seen both of."""


@dataclass(frozen=True, eq=False)
class SeenBy:
    """What one network says about all clips.

    Attributes:
        name: "voice" or "face".
        vectors: (N, D) float; a row of NaN for a clip that the network cannot read.
        threshold: similarity above which two clips show one person.
    """

    name: str
    vectors: np.ndarray
    threshold: float

    def similarities(self) -> np.ndarray:
        """Return cosines (N, N) float32, NaN where one of the two was not seen."""
        vectors = self.vectors.astype(np.float32)
        units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return np.clip(units @ units.T, -1.0, 1.0)


def joint_distances(views: Sequence[SeenBy]) -> np.ndarray:
    """Return distances (N, N): the mean of what the networks say of a pair, in units of their thresholds."""
    total = np.zeros((len(views[0].vectors),) * 2, np.float32)
    count = np.zeros_like(total)
    for view in views:
        distance = (1.0 - view.similarities()) / (1.0 - view.threshold)
        seen = np.isfinite(distance)
        total[seen] += distance[seen]
        count += seen
    joint = np.where(count > 0, total / np.maximum(count, 1), UNKNOWN)
    np.fill_diagonal(joint, 0.0)
    return (joint + joint.T) / 2


def group(distances: np.ndarray, labels: Sequence[str]) -> list[int]:
    """Group clips.

    Clips of one label are always together and two labels never are. A clip without a label joins a labelled group, or
    another clip without a label, when their mean distance is at most 1.

    Args:
        distances: (N, N), symmetric.
        labels: N names, "" where none is known.

    Returns:
        The group of each clip, numbered by first clip.
    """
    if len(labels) == 1:
        return [0]
    names = np.array(labels, dtype=object)
    labelled = names != ""
    both = labelled[:, None] & labelled[None]
    same = names[:, None] == names[None]
    bound = np.where(both, np.where(same, 0.0, 2 * max(UNKNOWN, float(distances.max()))), distances)
    np.fill_diagonal(bound, 0.0)
    groups, refused = _cut(linkage(squareform(bound, checks=False), "average"), labels)
    merged: dict[str, list[int]] = {}
    loose: list[list[int]] = []
    for members in groups:
        held = next((labels[member] for member in members if labels[member]), "")
        if held:
            merged.setdefault(held, []).extend(members)
        else:
            loose.append(members)
    for members in [one for one in loose if one[0] in refused]:
        nearest = min(merged, key=lambda name: float(distances[np.ix_(members, merged[name])].mean()))
        if distances[np.ix_(members, merged[nearest])].mean() <= 1:
            merged[nearest] = merged[nearest] + members
            loose.remove(members)
    return _numbered([*merged.values(), *loose], len(labels))


def _cut(tree: np.ndarray, labels: Sequence[str]) -> tuple[list[list[int]], set[int]]:
    """Return the largest subtrees of height at most 1 with at most one label, and clips cut off only for labels."""
    groups: list[list[int]] = []
    refused: set[int] = set()
    waiting = [to_tree(tree)]
    while waiting:
        node = waiting.pop()
        members = node.pre_order()
        held = {labels[member] for member in members} - {""}
        if node.is_leaf() or (node.dist <= 1 and len(held) < 2):
            groups.append(members)
            continue
        if node.dist <= 1:
            refused.update(members)
        waiting += [node.get_left(), node.get_right()]
    return groups, refused


def _numbered(groups: Sequence[Sequence[int]], n_clips: int) -> list[int]:
    found = [0] * n_clips
    for number, members in enumerate(sorted(groups, key=min)):
        for member in members:
            found[member] = number
    return found


def mean_distances(distances: np.ndarray, groups: Sequence[int]) -> np.ndarray:
    """Return the mean distance (N, K) of each clip to the other clips of each group; NaN where there is none.

    NaN in `distances` are pairs that are not known and do not count.
    """
    known = np.isfinite(distances)
    np.fill_diagonal(known, False)
    member = np.eye(max(groups) + 1, dtype=np.float64)[list(groups)]
    count = known.astype(np.float64) @ member
    total = np.where(known, distances, 0.0).astype(np.float64) @ member
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
