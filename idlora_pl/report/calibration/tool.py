"""`idlora calibrate`: scores of the published methods' own clips beside the numbers that were published of them."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from idlora_pl.files import replacing
from idlora_pl.report.calibration.build import Calibration
from idlora_pl.report.calibration.build import calibrate as compare
from idlora_pl.report.calibration.published import read_published, refuse_unknown
from idlora_pl.report.calibration.render import to_dict, to_markdown, to_rich
from idlora_pl.results.scores_file import read_scores, row_names
from idlora_pl.scorers.card import WEIGHTS, MissingLibrary, Unavailable
from idlora_pl.scorers.registry import CARDS


def calibrate(arguments: list[str]) -> None:
    """Compare scores of the published methods' clips with a published table: order, level, what was left open."""
    parser = argparse.ArgumentParser(prog="idlora calibrate", description=calibrate.__doc__)
    parser.add_argument("scores", type=Path, help="scores.jsonl with one row a method, and rows of bounds")
    parser.add_argument("--table", type=Path, required=True, help="yaml that quotes the published numbers")
    parser.add_argument(
        "--method", action="append", default=[], metavar="ROW=LABEL", help="row of the scores that is a quoted row"
    )
    parser.add_argument("--split", help="split whose clips are compared, or 'all'; by default that of the table")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help=f"where weights are looked for ({WEIGHTS})")
    parser.add_argument("--output", type=Path, help="folder for calibration.md and calibration.json")
    options = parser.parse_args(arguments)
    named = _named(options.method)
    published = read_published(options.table, named)
    scores = read_scores(options.scores)
    refuse_unknown(published, row_names(scores), list(named), str(options.scores))
    split = {None: published.split, "all": ""}.get(options.split, options.split)
    found = compare(scores, published, options.scores, split, lambda score: why_absent(score, options.weights))
    found = replace(found, remark=f"Weights were looked for in {options.weights}; --weights names another folder.")
    for part in to_rich(found):
        Console().print(part)
    if options.output is not None:
        for path in write_calibration(found, options.output):
            Console().print(f"wrote {path}", markup=False)


def write_calibration(found: Calibration, folder: Path) -> list[Path]:
    """Write ``calibration.md`` and ``calibration.json``, each whole or not at all; return their paths."""
    listed = json.dumps(to_dict(found), indent=1, default=str, allow_nan=False) + "\n"
    contents = {"calibration.md": to_markdown(found), "calibration.json": listed}
    for name, content in contents.items():
        with replacing(folder / name) as partial:
            partial.write_text(content, encoding="utf-8")
    return [folder / name for name in contents]


def why_absent(score: str, weights: Path) -> str:
    """Say why nothing was scored with a score, and what to do."""
    card = next((card for card in CARDS.values() if score in {one.name for one in card.scores}), None)
    if card is None:
        return f"no scorer of this version gives {score}"
    try:
        card.digest(weights)
        card.versions(required=True)
    except MissingLibrary as error:
        return f"the package {error.package} of {card.name} is missing; get it with: {error.command}"
    except Unavailable:
        return f"the weights of {card.name} are missing (`idlora doctor --scorers {card.name}` says how to get them)"
    return f"{card.name} was not run; score the methods with `idlora score --scorers {card.name}`"


def _named(given: list[str]) -> dict[str, str]:
    """Read ROW=LABEL."""
    found: dict[str, str] = {}
    for text in given:
        row, mark, label = text.partition("=")
        if not (row and mark and label):
            raise ValueError(f"--method {text!r} must be ROW=LABEL, as kling='Kling 2.6 Pro'")
        if row in found:
            raise ValueError(f"--method names the row '{row}' twice; give it once")
        found[row] = label
    return found
