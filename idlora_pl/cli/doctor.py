"""`idlora doctor`: which scorers can score here, and which have proved themselves."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from idlora_pl.scorers.loading import device_here, names_of
from idlora_pl.scorers.proof import VERIFIED, Finding, VerifiedFile, examine
from idlora_pl.scorers.registry import CARDS, card_named
from idlora_pl.scorers.weights import WEIGHTS

_COLOURS = {"passed": "green", "failed": "red", "error": "red", "not run": "yellow", "none": "dim"}


def doctor(
    *,
    weights: Path = WEIGHTS,
    inputs: Path | None = None,
    scorers: str | None = None,
    check: bool = False,
    verified: Path = VERIFIED,
    device: str = "cpu",
) -> None:
    """List scorers: weights found or the command that gets them, libraries, anchors passed, failed or not run.

    Args:
        weights: Folder of weights.
        inputs: Folder of the public inputs that anchors are measured on.
        scorers: Names between commas, nano, paper or available; by default all.
        check: Measure every anchor anew, also those that take a while.
        verified: File of proofs.
        device: cpu, cuda, ...: where anchors are measured; a proof is of one.
    """
    name_of_device = device_here(device)
    for name, folder in (("weights", weights), ("inputs", inputs)):
        if folder not in (None, WEIGHTS) and not folder.is_dir():
            raise ValueError(f"--{name} {folder} is not a folder; give the folder that holds them")
    names = names_of(scorers, weights) if scorers else list(CARDS)
    console = Console(soft_wrap=True)
    with console.status("looking at weights and anchors"):
        found = examine(
            [card_named(name) for name in names],
            weights,
            inputs,
            VerifiedFile(verified, device=name_of_device),
            run="all" if check else "quick",
        )
    console.print(_table(found))
    for line in explain(found):
        console.print(line, markup=False, highlight=False)
    if failed := [one.card.name for one in found if one.anchor == "failed"]:
        sys.exit(f"idlora: the anchors of {', '.join(failed)} failed; do not use their numbers")
    if broken := [one.card.name for one in found if one.anchor == "error"]:
        sys.exit(f"idlora: {', '.join(broken)} ended in an error; what it was stands above")


def _table(found: Sequence[Finding]) -> Table:
    table = Table("scorer", title="scorers")
    table.add_column("scores", overflow="fold")
    for heading in ("weights", "library", "anchor"):
        table.add_column(heading, no_wrap=True)
    for one in found:
        colour = _COLOURS[one.anchor]
        scores = ", ".join(score.name for score in one.card.scores)
        library = f"[red]{one.library} is missing" if one.library else "ok"
        weights = one.weights if one.weights in ("ok", "shipped") else f"[yellow]{one.weights}"
        table.add_row(one.card.name, scores, weights, library, f"[{colour}]{one.anchor}")
    return table


def explain(found: Sequence[Finding]) -> list[str]:
    """Say, for each scorer, what its anchor gave and how to get what is missing."""
    lines = []
    for one in found:
        card = one.card
        lines.append(f"{card.name}: anchor {one.anchor}" + (f" ({one.message})" if one.message else ""))
        if card.anchor is not None:
            lines.append(f"    {card.anchor.what}")
        lines += [f"    {line}" for line in one.compared()]
        lines += [f"    get: {fix}" for fix in one.fixes]
    return lines
