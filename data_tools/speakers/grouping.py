"""Group clips into speakers: average linkage of cosine distances, with the user's labels kept; and how sure that is.

Distances are in units of the threshold: 0 is the same direction, 1 is where two groups stop being one person's.
Letters: N clips, D embedding size, K speakers.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.cluster.hierarchy import linkage, to_tree
from scipy.spatial.distance import squareform

from data_tools.verb.lists import Row

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


@dataclass(frozen=True)
class Agreement:
    """A grouping against the truth, by pairs of clips.

    Attributes:
        precision: of the pairs that were put together, how many belong together.
        recall: of the pairs that belong together, how many were put together.
        f1: their harmonic mean.
        n_clips: clips whose truth is known.
        n_found: groups that they were put into.
        n_true: people that they are of.
    """

    precision: float
    recall: float
    f1: float
    n_clips: int
    n_found: int
    n_true: int

    def sentence(self) -> str:
        """Say it in one line."""
        return (
            f"against the truth: {self.n_found} speakers found of {self.n_true}, pairwise precision "
            f"{self.precision:.4f}, recall {self.recall:.4f}, F1 {self.f1:.4f} on {self.n_clips} clips"
        )

    def row(self) -> Row:
        """Return it as JSON."""
        return asdict(self)


def compare(found: Sequence[str], true: Sequence[str]) -> Agreement:
    """Compare names found with true ones; clips whose true name is "" do not count.

    Without a pair that was put together precision is 1, without one that belongs together recall is 1.

    Example:
        >>> compare(["a", "a", "a", "b"], ["x", "x", "y", "y"]).sentence()
        'against the truth: 2 speakers found of 2, pairwise precision 0.3333, recall 0.5000, F1 0.4000 on 4 clips'
    """
    both = [(one, other) for one, other in zip(found, true, strict=True) if other]

    def pairs(values: Sequence[object]) -> int:
        return sum(count * (count - 1) // 2 for count in Counter(values).values())

    right = pairs(both)
    together, belonging = pairs([one for one, _ in both]), pairs([other for _, other in both])
    precision = right / together if together else 1.0
    recall = right / belonging if belonging else 1.0
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    if not together and not belonging:
        f1 = 1.0
    return Agreement(precision, recall, f1, len(both), len({one for one, _ in both}), len({two for _, two in both}))


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _nearest_other(means: np.ndarray, groups: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return for each clip the nearest group but its own, -1 without one, and its distance."""
    others = np.where(np.isnan(means), np.inf, means)
    others[np.arange(len(others)), list(groups)] = np.inf
    nearest = others.argmin(1)
    distance = others[np.arange(len(others)), nearest]
    return np.where(np.isfinite(distance), nearest, -1), distance


def confidences(distances: np.ndarray, groups: Sequence[int]) -> tuple[list[float | None], list[int]]:
    """Return for each clip its margin and the nearest other group (-1 without one).

    The margin is how much farther the nearest other group is than its own, in units of the threshold; a clip alone in
    its group is at distance 0 from it. It is None when there is no other group.
    """
    means = mean_distances(distances, groups)
    own = np.nan_to_num(means[np.arange(len(means)), list(groups)], nan=0.0)
    nearest, other = _nearest_other(means, groups)
    return [_rounded(value) for value in other - own], nearest.tolist()


def disagreements(
    views: Sequence[SeenBy], groups: Sequence[int], keys: Sequence[str], names: Sequence[str]
) -> list[Row]:
    """List where one network alone would have decided otherwise.

    Args:
        views: what the networks say.
        groups: the group of each clip.
        keys: of the clips.
        names: of the groups.

    Returns:
        Rows with "kind": "nearer_to_other", a clip that is nearer to another speaker; "unlike_own", a clip below the
        threshold with its own speaker; "alike", two speakers above the threshold.
    """
    found: list[Row] = []
    for view in views:
        means = 1.0 - mean_distances(1.0 - view.similarities().astype(np.float64), groups)
        own = means[np.arange(len(means)), list(groups)]
        nearest, distance = _nearest_other(1.0 - means, groups)
        about = {"by": view.name, "threshold": view.threshold}
        for index, key in enumerate(keys):
            row = {"key": key, "speaker": names[groups[index]], **about, "similarity": _rounded(own[index])}
            other = {"other": names[nearest[index]], "other_similarity": _rounded(1 - distance[index])}
            if nearest[index] >= 0 and 1 - distance[index] > max(own[index], view.threshold):
                found.append({"kind": "nearer_to_other"} | row | other)
            elif own[index] < view.threshold:
                found.append({"kind": "unlike_own"} | row)
        found += _alike(means, view, groups, names)
    return found


def _alike(means: np.ndarray, view: SeenBy, groups: Sequence[int], names: Sequence[str]) -> list[Row]:
    """List pairs of speakers whose clips are more alike, on average, than the threshold."""
    member = np.eye(len(names))[list(groups)]
    seen = np.isfinite(means)
    count = member.T @ seen
    between = np.where(count > 0, member.T @ np.where(seen, means, 0.0) / np.maximum(count, 1), np.nan)
    first, second = np.nonzero(np.triu(np.nan_to_num(between, nan=-1.0) >= view.threshold, 1))
    return [
        {
            "kind": "alike",
            "by": view.name,
            "speakers": [names[one], names[two]],
            "similarity": _rounded(between[one, two]),
            "threshold": view.threshold,
        }
        for one, two in zip(first.tolist(), second.tolist(), strict=True)
    ]
