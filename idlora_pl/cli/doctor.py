"""`idlora doctor`: which scorers can score here, and which have proved themselves."""

from __future__ import annotations

import argparse
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


def doctor(arguments: list[str]) -> None:
    """List scorers: weights found or the command that gets them, libraries, anchors passed, failed or not run."""
    parser = argparse.ArgumentParser(prog="idlora doctor", description=doctor.__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help=f"folder of weights ({WEIGHTS})")
    parser.add_argument("--inputs", type=Path, help="folder of the public inputs that anchors are measured on")
    parser.add_argument("--scorers", help="names between commas, nano, paper or available; by default all")
    parser.add_argument("--check", action="store_true", help="measure every anchor anew, also those that take a while")
    parser.add_argument("--verified", type=Path, default=VERIFIED, help=f"file of proofs ({VERIFIED})")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...: where anchors are measured; a proof is of one")
    options = parser.parse_args(arguments)
    device = device_here(options.device)
    for name in ("weights", "inputs"):
        given = getattr(options, name)
        if given is not None and f"--{name}" in " ".join(arguments) and not given.is_dir():
            raise ValueError(f"--{name} {given} is not a folder; give the folder that holds them")
    names = names_of(options.scorers, options.weights) if options.scorers else list(CARDS)
    console = Console(soft_wrap=True)
    with console.status("looking at weights and anchors"):
        found = examine(
            [card_named(name) for name in names],
            options.weights,
            options.inputs,
            VerifiedFile(options.verified, device=device),
            run="all" if options.check else "quick",
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
