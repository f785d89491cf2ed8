"""The scores of one clip as data, and as lines of ``scores.jsonl``: one line for each scorer.

A line holds `key`, `row`, `speaker`, `seed`, `scorer`, `scores` and `reasons`, and, where there is something to say,
`notes` (of the clip), `weights`, `verified`, `versions`, `details` and `curves` (of the scorer). Lines of older
versions hold all scores of a clip flat beside `key`; they are still read.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from idlora_pl.curve import Curve

PATHS = ("clip", "reference", "target", "first_frame")
"""Notes that are paths, relative to the file that the row stands in."""

N_ITEMS = "manifest_items"
"""Note of how many items the manifest has, scored or not."""

_NAMED = ("key", "row", "speaker", "seed", "reasons")


@dataclass(frozen=True)
class ScorerFacts:
    """What made some scores of a row.

    Attributes:
        scores: Names of the scores.
        weights: SHA-256 of its weights; "none" where it has none.
        verified: Whether its anchor had passed, with these weights, on the machine that scored.
        versions: Versions of the packages that it uses, by name.
        details: What the scorer says about the clip, such as the crop that it chose.
        curves: Scores over time, by name.
    """

    scores: tuple[str, ...]
    weights: str = ""
    verified: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return what a line says about the scorer, without what is empty."""
        about = {"weights": self.weights, "verified": self.verified, "versions": self.versions, "details": self.details}
        curves = {name: asdict(curve) for name, curve in self.curves.items()}
        return {name: value for name, value in (about | {"curves": curves}).items() if value or value is False}

    @classmethod
    def from_dict(cls, scores: tuple[str, ...], line: Mapping[str, Any]) -> "ScorerFacts":
        """Read what `to_dict` wrote; raises KeyError, TypeError or AttributeError where it is damaged."""
        curves = {
            name: Curve(curve["start_s"], curve["step_s"], tuple(curve["values"]))
            for name, curve in line.get("curves", {}).items()
        }
        versions, details = dict(line.get("versions", {})), dict(line.get("details", {}))
        return cls(scores, str(line.get("weights", "")), bool(line.get("verified", False)), versions, details, curves)


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one clip in one row of a table.

    Attributes:
        key: Name of the test item; the same in all rows.
        row: Row of the table, such as ``negative``.
        speaker: Who speaks; clips of one speaker are one cluster in the statistics.
        seed: Seed of the generation; None for real clips. Several seeds of one key are repeats.
        scores: Value by metric, None where there is none.
        reasons: Reason code by metric, for the missing ones.
        notes: Any other text by name. Those of ``PATHS`` are paths relative to the file.
        scorers: What made the scores, by name of the scorer; scores that no scorer claims have none.
    """

    key: str
    row: str
    speaker: str
    seed: int | None = None
    scores: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    scorers: dict[str, ScorerFacts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a value that is not a number, a missing one without a reason, and a score with two makers."""
        where = f"clip '{self.key}', row '{self.row}'"
        for name, value in self.scores.items():
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{where}: {name} is {value}; write None and a reason")
            if value is None and name not in self.reasons:
                raise ValueError(f"{where}: {name} is missing without a reason code")
        if clash := (self.scores.keys() | self.notes.keys()) & set(_NAMED) or self.scores.keys() & self.notes.keys():
            raise ValueError(f"{where}: {sorted(clash)} named twice; rename the metric")
        claimed = [name for facts in self.scorers.values() for name in facts.scores]
        if len(set(claimed)) < len(claimed) or not set(claimed) <= self.scores.keys():
            raise ValueError(f"{where}: the scorers claim {claimed}, the scores are {list(self.scores)}")

    @property
    def curves(self) -> dict[str, Curve]:
        """Scores over time of all scorers, by name."""
        return {name: curve for facts in self.scorers.values() for name, curve in facts.curves.items()}

    def facts(self, score: str) -> ScorerFacts | None:
        """Return what made a score; None where no scorer claims it."""
        return next((found for found in self.scorers.values() if score in found.scores), None)

    def is_verified(self, score: str) -> bool:
        """Say whether the anchor of the scorer behind a score had passed on the machine that scored."""
        found = self.facts(score)
        return found is not None and found.verified

    def to_lines(self) -> list[str]:
        """Return one line of JSON for each scorer, without line ends."""
        claimed = {name for facts in self.scorers.values() for name in facts.scores}
        rest = tuple(name for name in self.scores if name not in claimed)
        parts: list[tuple[str | None, ScorerFacts]] = [*self.scorers.items()]
        if rest or not parts:
            parts.append((None, ScorerFacts(rest)))
        unclaimed = {name: why for name, why in self.reasons.items() if name not in self.scores}
        lines = []
        for scorer, facts in parts:
            named = {"key": self.key, "row": self.row, "speaker": self.speaker, "seed": self.seed, "scorer": scorer}
            reasons = unclaimed | {name: self.reasons[name] for name in facts.scores if name in self.reasons}
            unclaimed = {}
            line = named | {"scores": {name: self.scores[name] for name in facts.scores}, "reasons": reasons}
            line |= {"notes": self.notes} if self.notes else {}
            lines.append(json.dumps(line | (facts.to_dict() if scorer else {}), allow_nan=False))
        return lines

    @classmethod
    def from_line(cls, line: str) -> "ScoreRow":
        """Parse one line of this or of an older version.

        Raises:
            ValueError: The line is not a row; the message says why.
        """
        row = json.loads(line)
        if not isinstance(row, dict) or not {"key", "row", "speaker"} <= row.keys():
            raise ValueError("a row needs the keys key, row and speaker")
        named: dict[str, Any] = {
            "key": str(row["key"]),
            "row": str(row["row"]),
            "speaker": str(row["speaker"]),
            "seed": row.get("seed"),
        }
        if "scorer" not in row:
            return _old(named, row)
        try:
            scores = {name: None if value is None else float(value) for name, value in row["scores"].items()}
            facts = {row["scorer"]: ScorerFacts.from_dict(tuple(scores), row)} if row["scorer"] else {}
            return cls(**named, scores=scores, reasons=row["reasons"], notes=row.get("notes", {}), scorers=facts)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the line is damaged ({error!r}); delete it and score that clip again") from error


def _old(named: Mapping[str, Any], row: Mapping[str, Any]) -> ScoreRow:
    """Read a flat line: numbers and nulls are scores, other text is a note."""
    rest = {name: value for name, value in row.items() if name not in _NAMED}
    if bad := [name for name, value in rest.items() if not isinstance(value, int | float | str | None)]:
        raise ValueError(f"{bad[0]} must be a number, null or text; got {rest[bad[0]]!r}")
    return ScoreRow(
        **named,
        scores={k: v if v is None else float(v) for k, v in rest.items() if not isinstance(v, str)},
        reasons=row.get("reasons", {}),
        notes={name: value for name, value in rest.items() if isinstance(value, str)},
    )
