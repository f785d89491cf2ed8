"""The scores of one clip as data, and as lines of ``scores.jsonl``: one line for each scorer.

A line holds `key`, `row`, `speaker`, `seed`, `scorer`, `scores` and `reasons`, and, where there is something to say,
`notes` (of the clip), `weights`, `verified`, `versions`, `details` and `curves` (of the scorer). Lines of older
versions hold all scores of a clip flat beside `key`; they are still read. A reason says whose fault it is that a score
is missing, for only what a clip fails at counts against its method; its codes are those of docs/scoring.md.
Nothing here needs torch, so that tables are read quickly.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from idlora_pl.files import parsed_json

AT_EDGE = "at the edge of the search"
BY_CHANCE = "with a correlation that unrelated curves reach"
DOUBTS = (AT_EDGE, BY_CHANCE)
"""Why a lag may be none; a scorer writes them into the detail `<score>_doubt` of a clip."""


@dataclass(frozen=True)
class Curve:
    """A score over time: values[i] belongs to the window that starts at start_s + i * step_s.

    Attributes:
        start_s: Start of the first window.
        step_s: From the start of a window to that of the next.
        values: The scores; None where there is none.
        marked: Places of values that may be none (see `DOUBTS`).
    """

    start_s: float
    step_s: float
    values: tuple[float | None, ...]
    marked: tuple[int, ...] = ()


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
        curves = {name: _without_marks(asdict(curve)) for name, curve in self.curves.items()}
        return {name: value for name, value in (about | {"curves": curves}).items() if value or value is False}

    @classmethod
    def from_dict(cls, scores: tuple[str, ...], line: Mapping[str, Any]) -> "ScorerFacts":
        """Read what `to_dict` wrote; raises ValueError, KeyError or TypeError where it is damaged."""
        curves = {
            name: Curve(
                _number("start_s", curve["start_s"]),
                _number("step_s", curve["step_s"]),
                tuple(value if value is None else _number(name, value) for value in curve["values"]),
                tuple(int(_number("marked", place)) for place in curve.get("marked", [])),
            )
            for name, curve in _mapping("curves", line.get("curves", {})).items()
        }
        versions, details = (_texts(name, line.get(name, {})) for name in ("versions", "details"))
        weights, verified = line.get("weights", ""), line.get("verified", False)
        if not isinstance(weights, str) or not isinstance(verified, bool):
            raise ValueError(f"weights must be text and verified true or false; got {weights!r} and {verified!r}")
        return cls(scores, weights, verified, versions, details, curves)


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

    def doubt(self, score: str) -> str:
        """Return why a value may be none, in the words of its scorer; "" where it says nothing."""
        found = self.facts(score)
        return "" if found is None else found.details.get(f"{score}_doubt", "")

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
        row = parsed_json(line, "the line")
        if not isinstance(row, dict) or not {"key", "row", "speaker"} <= row.keys():
            raise ValueError("a row needs the keys key, row and speaker")
        named: dict[str, Any] = {name: _name(name, row[name]) for name in ("key", "row", "speaker")}
        named["seed"] = _seed(row.get("seed"))
        if "scorer" not in row:
            return _old(named, row)
        scorer = row["scorer"]
        if not isinstance(scorer, str | None):
            raise ValueError(f"scorer must be text or null; got {scorer!r}")
        try:
            scores = {name: _score(name, value) for name, value in _mapping("scores", row["scores"]).items()}
            facts = {scorer: ScorerFacts.from_dict(tuple(scores), row)} if scorer else {}
            reasons, notes = _texts("reasons", row["reasons"]), _texts("notes", row.get("notes", {}))
            return cls(**named, scores=scores, reasons=reasons, notes=notes, scorers=facts)
        except (KeyError, TypeError) as error:
            raise ValueError(f"the line is damaged ({error!r}); delete it and score that clip again") from error


def _old(named: Mapping[str, Any], row: Mapping[str, Any]) -> ScoreRow:
    """Read a flat line: numbers and nulls are scores, other text is a note."""
    rest = {name: value for name, value in row.items() if name not in _NAMED}
    if bad := [name for name, value in rest.items() if not _is_number(value) and not isinstance(value, str | None)]:
        raise ValueError(f"{bad[0]} must be a number, null or text; got {rest[bad[0]]!r}")
    if bad := [name for name, value in rest.items() if isinstance(value, str) and _reads_as_number(name, value)]:
        raise ValueError(f"{bad[0]} must be a number; got the text {rest[bad[0]]!r}, write it without quotes")
    return ScoreRow(
        **named,
        scores={name: _score(name, value) for name, value in rest.items() if not isinstance(value, str)},
        reasons=_texts("reasons", row.get("reasons", {})),
        notes={name: value for name, value in rest.items() if isinstance(value, str)},
    )


def _without_marks(curve: dict[str, Any]) -> dict[str, Any]:
    """Leave out the marks where there are none, as in older lines."""
    return {name: value for name, value in curve.items() if name != "marked" or value}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _reads_as_number(name: str, text: str) -> bool:
    if name in PATHS or name.endswith("sha256") or name in (N_ITEMS, "prompt"):
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(name: str, value: object) -> float:
    if not _is_number(value):
        raise ValueError(f"{name} must be a number or null; got {value!r}")
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError as error:
        raise ValueError(f"{name} must be a number or null; got one of {len(str(value))} digits") from error


def _score(name: str, value: object) -> float | None:
    return None if value is None else _number(name, value)


def _name(what: str, value: object) -> str:
    """Return what names a clip, row or speaker; whole numbers are names too."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"{what} must be text; got {value!r}")
    return str(value)


def _seed(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | None):
        raise ValueError(f"seed must be a whole number or null; got {value!r}")
    return value


def _mapping(what: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be an object, {{}} where there is nothing to say; got {value!r}")
    return value


def _texts(what: str, value: object) -> dict[str, str]:
    found = _mapping(what, value)
    if wrong := [name for name, text in found.items() if not isinstance(text, str)]:
        raise ValueError(f"{what} of {wrong[0]} must be text; got {found[wrong[0]]!r}")
    return found


_OF_THE_ITEM = {
    "clip_not_given",
    "no_other_clip",
    "no_other_speaker",
    "no_target",
    "no_reference",
    "no_expected_words",
    "no_expected_environment",
    "no_environment_text",
    "no_style_text",
    "no_sounds_text",
    "words_not_in_grammar",
    "language_unknown",
    "text_too_long",
    "scorer_failed",
}
_OF_OTHER_RECORDINGS = ("reference_", "target_")


def is_failure(reason: str) -> bool:
    """Say whether a clip has no score because of what the clip is like.

    What the item lacks, a reference or target that cannot be used, a clip that the method never published, and an error
    of ours are no failures of the method.

    Example:
        >>> is_failure("no_face"), is_failure("target_no_face"), is_failure("words_not_in_grammar")
        (True, False, False)
    """
    return reason not in _OF_THE_ITEM and not reason.startswith(_OF_OTHER_RECORDINGS)
