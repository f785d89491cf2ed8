"""Where the items of a row come from, and what scored them: noted in every line, so that no two are mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import idlora_pl
from idlora_pl.benchmark.items import manifest_name
from idlora_pl.results.row import N_ITEMS, ScoreRow
from idlora_pl.scorers.loading import Scorer

NAME, DIGEST = "manifest", "manifest_sha256"


def origin_of(entries: Sequence[Mapping[str, Any]], path: Path | str) -> dict[str, str]:
    """Return notes about a manifest: its name, 16 hex digits for the ids of its items, and how many these are.

    The digest leaves out what the items say: `item_sha256` stands for that, item by item.
    """
    ids = "\n".join(sorted(str(entry["output_name"]) for entry in entries))
    digest = sha256(ids.encode()).hexdigest()[:16]
    return {NAME: manifest_name(path), DIGEST: digest, N_ITEMS: str(len(entries))}


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
