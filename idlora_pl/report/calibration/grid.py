"""One score on the clips that every method has it for, and why other clips are left out.

M methods, N clips, K speakers.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from idlora_pl.report.build import clip_values
from idlora_pl.results.intervals import Floats
from idlora_pl.results.row import ScoreRow


@dataclass(frozen=True)
class Grid:
    """Values of one score, with no hole.

    Attributes:
        score: Its name.
        methods: The methods, in the table's order.
        keys: Names of the clips.
        speakers: Speaker of each clip.
        values: (M, N); the mean over seeds where a clip was generated several times.
        left_out: For each clip that is not among `keys`, which methods lack it and why.
        without: For each method that has the score for no clip, why.
        is_verified: Whether the scorer's anchor had passed for every value.
    """

    score: str
    methods: tuple[str, ...]
    keys: tuple[str, ...]
    speakers: tuple[str, ...]
    values: Floats
    left_out: Mapping[str, str]
    without: Mapping[str, str]
    is_verified: bool

    @property
    def n_speakers(self) -> int:
        """How many people speak."""
        return len(set(self.speakers))

    def on(self, keys: Collection[str]) -> "Grid":
        """Return the part of the clips that is among `keys`."""
        kept = [place for place, key in enumerate(self.keys) if key in keys]
        names, people = tuple(self.keys[place] for place in kept), tuple(self.speakers[place] for place in kept)
        values = self.values[:, kept]
        return Grid(self.score, self.methods, names, people, values, self.left_out, self.without, self.is_verified)


def grid_of(scores: Sequence[ScoreRow], score: str, methods: Sequence[str]) -> Grid:
    """Collect a score on the clips that every method has it for; methods that have it for none are left out.

    Args:
        scores: Rows of any kind; those of `methods` are taken.
        score: Its name.
        methods: The methods, in order.

    Raises:
        ValueError: Methods were scored with different weights.
    """
    by_method = {name: [row for row in scores if row.row == name] for name in methods}
    _refuse_other_weights(by_method, score)
    values = {name: clip_values(rows, score) for name, rows in by_method.items()}
    kept = [name for name in methods if any(value is not None for value in values[name].values())]
    keys = list(dict.fromkeys(key for name in methods for key in values[name]))
    lacking = {key: [name for name in kept if values[name].get(key) is None] for key in keys}
    common = [key for key in keys if not lacking[key]] if kept else []
    people = {row.key: row.speaker for rows in by_method.values() for row in rows}
    numbers = np.array([[values[name][key] for key in common] for name in kept], dtype=np.float64)
    used = [row for name in kept for row in by_method[name] if row.key in common]
    return Grid(
        score=score,
        methods=tuple(kept),
        keys=tuple(common),
        speakers=tuple(people[key] for key in common),
        values=numbers.reshape(len(kept), len(common)),
        left_out={key: _reasons(by_method, score, key, lacking[key]) for key in keys if kept and lacking[key]},
        without={name: _why_none(by_method[name], score) for name in methods if name not in kept},
        is_verified=bool(used) and all(row.is_verified(score) for row in used),
    )


def _reasons(by_method: Mapping[str, Sequence[ScoreRow]], score: str, key: str, methods: Sequence[str]) -> str:
    """Return "kling clip_not_given, ours silent"."""
    said = []
    for name in methods:
        found = {row.reasons.get(score, "not scored") for row in by_method[name] if row.key == key}
        said.append(f"{name} {' and '.join(sorted(found)) or 'not scored'}")
    return ", ".join(said)


def _why_none(rows: Sequence[ScoreRow], score: str) -> str:
    reasons = sorted({row.reasons[score] for row in rows if score in row.reasons})
    return " and ".join(reasons) or "not scored"


def _refuse_other_weights(by_method: Mapping[str, Sequence[ScoreRow]], score: str) -> None:
    first: tuple[str, str] | None = None
    for name, rows in by_method.items():
        for facts in (row.facts(score) for row in rows):
            if facts is None:
                continue
            first = first or (name, facts.weights)
            if facts.weights != first[1]:
                raise ValueError(
                    f"{score} of '{first[0]}' was made with weights {first[1]}, of '{name}' with {facts.weights}; "
                    "score all methods with the same weights"
                )
