"""What is left to score: every clip with the scorers that have not scored it yet.

What stands in a scores file already is still what it says, or is made anew. Every line notes where the items of its
row come from and what scored them, so that no two are mixed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import idlora_pl
from idlora_pl.benchmark.items import Item, manifest_name
from idlora_pl.evaluation.clips import ClipSource, short_hash
from idlora_pl.evaluation.rows import FAILED, item_digest, relative
from idlora_pl.files import locked
from idlora_pl.results.row import N_ITEMS, ScoreRow
from idlora_pl.results.scores_file import drop_scores, read_lines, read_scores
from idlora_pl.scorers.loading import Scorer

Again = Literal["failed", "all"]
Held = tuple[str, int | None, str]
"""A score of a clip: item, seed and name."""


@dataclass(frozen=True)
class Work:
    """One clip that is to be scored.

    Attributes:
        item: What it is compared with.
        source: Its file.
        scorers: Names of the scorers that have not scored it.
    """

    item: Item
    source: ClipSource
    scorers: tuple[str, ...]


@dataclass(frozen=True)
class Folder:
    """One row of a table that is to be scored.

    Attributes:
        items: The items.
        sources: Their clips, by name of the item.
        row: Row of the table.
        scores: The scores.jsonl to append to.
        again: Which scores of the row to make anew: those that a scorer failed at, or all of the chosen scorers.
        origin: What its lines say about the manifest.
    """

    items: Sequence[Item]
    sources: Mapping[str, ClipSource]
    row: str
    scores: Path
    again: Again = "failed"
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def beside(self) -> Path:
        """Folder of the scores file."""
        return self.scores.parent

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other processes from scoring the row meanwhile; raises ValueError when one does."""
        name = sha256(self.row.encode(errors="surrogateescape")).hexdigest()[:8]
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.beside / f".{self.scores.name}.{name}.lock", wait=False))
            except BlockingIOError as error:
                raise ValueError(
                    f"another `idlora score` scores row '{self.row}' of {self.scores} now; wait for it, or give "
                    "another --row"
                ) from error
            yield

    def make_room(self, scorers: Sequence[Scorer]) -> int:
        """Remove the lines that are to be made anew; return how many. Only who has claimed the row may do it."""
        if not self._exists():
            return 0
        names = {name for scorer in scorers for name in scorer.metric.names}
        return drop_scores(self.scores, lambda line: line.row == self.row and self._is_stale(line, names))

    def held(self, names: set[str]) -> set[Held]:
        """Return which of these scores the row holds and will keep."""
        return {
            (line.key, line.seed, name)
            for line in (read_lines(self.scores) if self._exists() else [])
            if line.row == self.row and not self._is_stale(line, names)
            for name in names & line.scores.keys()
        }

    def _exists(self) -> bool:
        return self.scores.is_file() and self.scores.stat().st_size > 0

    def _is_stale(self, line: ScoreRow, names: set[str]) -> bool:
        """Say whether a line of the row is to be made anew.

        With "all" that is every line with one of these scores, and of another manifest; else a line of these scores
        and of an item here, if scoring it again may give something else.
        """
        is_foreign = is_of_other_items(line, self.origin)
        holds_scores = not names.isdisjoint(line.scores)
        if self.again == "all":
            return holds_scores or is_foreign
        return holds_scores and not is_foreign and self._has_item_of(line) and self._may_change(line)

    def _has_item_of(self, line: ScoreRow) -> bool:
        return any((item.id, item.seed) == (line.key, line.seed) for item in self.items)

    def _may_change(self, line: ScoreRow) -> bool:
        """Say whether a scorer failed at the clip, or the clip is there by now or missing for another reason."""
        failed = any(line.reasons.get(name) == FAILED for name in line.scores)
        return failed or has_other_reason(line, self.sources[line.key], self.beside)

    def left(self, scorers: Sequence[Scorer]) -> list[Work]:
        """Return what is left to score.

        Raises:
            ValueError: A clip, or what it is compared with, is another file than when it was scored, the row holds
                items of another manifest, a scorer has other weights by now, or has given only some of its scores.
        """
        known = read_scores(self.scores) if self._exists() else []
        kept = {(row.key, row.seed): row for row in known if row.row == self.row}
        for row in kept.values():
            refuse_other_items(row, self.origin, self.scores)
        works = []
        for item in self.items:
            name = item.id
            found = kept.get((name, item.seed))
            if found is not None:
                refuse_changed(found, item, self.sources[name], self.scores)
            waiting = tuple(scorer.name for scorer in scorers if found is None or self._waits(scorer, found))
            if waiting:
                works.append(Work(item, self.sources[name], waiting))
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


_MISSING = "file_missing"


def has_other_reason(line: ScoreRow, source: ClipSource, beside: Path) -> bool:
    """Say whether a clip that was not there is there by now, or is missing elsewhere or for another reason."""
    reasons = {line.reasons.get(name) for name in line.scores}
    if len(reasons) != 1 or any(value is not None for value in line.scores.values()):
        return False
    reason = reasons.pop()
    if source.path is None:
        return reason != source.reason and (reason == _MISSING or "clip" not in line.notes)
    if reason == _MISSING:
        return source.path.is_file() or line.notes.get("clip") != relative(source.path, beside)
    return "clip" not in line.notes


def refuse_changed(row: ScoreRow, item: Item, source: ClipSource, scores: Path) -> None:
    """Raise ValueError when a clip that has scores is another by now, or is compared with other things."""
    path, noted = source.path, row.notes
    anew = f"score row '{row.row}' anew with --again all"
    if "clip_sha256" in noted:
        if path is not None and path.is_file():
            if short_hash(path) != noted["clip_sha256"]:
                raise ValueError(f"{path} is not the clip that {scores} holds scores of; {anew}")
        elif path is None or not _is_place(path, noted.get("clip", ""), scores.parent):
            missing = f"{path} does not exist" if path is not None else f"item '{row.key}' has no clip here"
            raise ValueError(
                f"{missing}, and {scores} holds scores of {noted.get('clip')}; give those clips or another --row, or "
                f"{anew}"
            )
    if "item_sha256" in noted and item_digest(item) != noted["item_sha256"]:
        raise ValueError(
            f"item '{row.key}' has another text, reference or target than when {scores} was written; {anew}"
        )


def _is_place(path: Path, noted: str, beside: Path) -> bool:
    """Say whether a path is the noted one, whatever its ending."""
    return Path(relative(path, beside)).with_suffix("") == Path(noted).with_suffix("")


NAME, DIGEST = "manifest", "manifest_sha256"


def origin_of(items: Sequence[Item], path: Path | str) -> dict[str, str]:
    """Return notes about a manifest: its name, 16 hex digits for the ids of its items, and how many these are.

    The digest leaves out what the items say: `item_sha256` stands for that, item by item.
    """
    ids = "\n".join(sorted(item.id for item in items))
    digest = sha256(ids.encode()).hexdigest()[:16]
    return {NAME: manifest_name(path), DIGEST: digest, N_ITEMS: str(len(items))}


def is_of_other_items(row: ScoreRow, origin: Mapping[str, str]) -> bool:
    """Say whether a row belongs to another manifest; rows of older versions do not say."""
    return {DIGEST} <= row.notes.keys() & origin and row.notes[DIGEST] != origin[DIGEST]


def refuse_other_items(row: ScoreRow, origin: Mapping[str, str], scores: Path) -> None:
    """Raise ValueError when a row of a scores file belongs to another manifest."""
    if is_of_other_items(row, origin):
        noted, given = (f"'{about.get(NAME)}' ({about.get(N_ITEMS)} items)" for about in (row.notes, origin))
        raise ValueError(
            f"{scores} holds scores of manifest {noted} in row '{row.row}', this is manifest {given}; give another "
            "--row, or score the row anew with --again all"
        )


def with_versions(scorers: Sequence[Scorer]) -> tuple[Scorer, ...]:
    """Add to the facts of scorers the versions of this package and of what decodes clips."""
    own = {"idlora_pl": idlora_pl.__version__, "av": version("av")}
    return tuple(
        replace(scorer, facts=replace(scorer.facts, versions=own | dict(scorer.facts.versions))) for scorer in scorers
    )
