"""What is left to score: every clip with the scorers that have not scored it yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from idlora_pl.report.row import ScoreRow
from idlora_pl.report.scores import drop_scores, read_scores
from idlora_pl.scorers.loading import Scorer
from idlora_pl.scoring.clips import ClipSource, short_hash
from idlora_pl.scoring.expected import Entry, item_digest
from idlora_pl.scoring.rows import FAILED

Again = Literal["failed", "all"]


@dataclass(frozen=True)
class Work:
    """One clip that is to be scored.

    Attributes:
        entry: Its item.
        source: Its file.
        scorers: Names of the scorers that have not scored it.
    """

    entry: Mapping[str, Any]
    source: ClipSource
    scorers: tuple[str, ...]


@dataclass(frozen=True)
class Folder:
    """One row of a table that is to be scored.

    Attributes:
        entries: The items.
        sources: Their clips, by name of the item.
        row: Row of the table.
        scores: The scores.jsonl to append to.
        again: Which scores of the row to make anew: those that a scorer failed at, or all of the chosen scorers.
    """

    entries: Sequence[Entry]
    sources: Mapping[str, ClipSource]
    row: str
    scores: Path
    again: Again = "failed"

    @property
    def beside(self) -> Path:
        """Folder of the scores file."""
        return self.scores.parent

    def make_room(self, scorers: Sequence[Scorer]) -> int:
        """Remove the lines that are to be made anew; return how many. Only one process may do it."""
        if not self.scores.is_file() or not self.scores.stat().st_size:
            return 0
        names = {name for scorer in scorers for name in scorer.metric.names}
        return drop_scores(self.scores, lambda line: line.row == self.row and self._is_stale(line, names))

    def _is_stale(self, line: ScoreRow, names: set[str]) -> bool:
        if not line.scores.keys() & names:
            return False
        if self.again == "all":
            return True
        reasons = {line.reasons.get(name) for name in line.scores}
        source = self.sources.get(line.key)
        appeared = source is not None and source.path is not None and source.path.is_file()
        return FAILED in reasons or (reasons == {"file_missing"} and appeared)

    def left(self, scorers: Sequence[Scorer]) -> list[Work]:
        """Return what is left to score.

        Raises:
            ValueError: A clip, or what it is compared with, is another file than when it was scored, a scorer has
                other weights by now, or has given only some of its scores.
        """
        known = read_scores(self.scores) if self.scores.is_file() and self.scores.stat().st_size else []
        kept = {(row.key, row.seed): row for row in known if row.row == self.row}
        works = []
        for entry in self.entries:
            name = entry["output_name"]
            found = kept.get((name, entry["seed"]))
            if found is not None:
                self._refuse_changed(found, entry, self.sources[name])
            waiting = tuple(scorer.name for scorer in scorers if found is None or self._waits(scorer, found))
            if waiting:
                works.append(Work(entry, self.sources[name], waiting))
        return works

    def _waits(self, scorer: Scorer, row: ScoreRow) -> bool:
        """Say whether a scorer has not scored a clip yet."""
        done = [name in row.scores for name in scorer.metric.names]
        facts = row.scorers.get(scorer.name)
        if facts is not None and facts.weights != scorer.facts.weights:
            raise ValueError(
                f"{self.scores} holds scores of {scorer.name} for row '{self.row}' with weights {facts.weights}, "
                f"these are {scorer.facts.weights}; use the same weights, or score the row anew with --again all"
            )
        if any(done) and not all(done):
            raise ValueError(
                f"{self.scores}: clip '{row.key}' of row '{self.row}' has some of the scores of {scorer.name} but "
                "not all; score the row anew with --again all"
            )
        return not all(done)

    def _refuse_changed(self, row: ScoreRow, entry: Entry, source: ClipSource) -> None:
        """Raise ValueError when a clip that has scores is another file by now, or is compared with other things."""
        path, noted = source.path, row.notes
        if "clip_sha256" in noted and path is not None and path.is_file() and short_hash(path) != noted["clip_sha256"]:
            raise ValueError(
                f"{path} is not the clip that {self.scores} holds scores of; "
                f"score row '{self.row}' anew with --again all"
            )
        if "item_sha256" in noted and item_digest(entry) != noted["item_sha256"]:
            raise ValueError(
                f"item '{row.key}' has another text, reference or target than when {self.scores} was written; "
                f"score row '{self.row}' anew with --again all"
            )
