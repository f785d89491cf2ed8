"""Calibration on the authors' own clips: scores of published clips beside the numbers that were published of them.

    python -m experiments.calibration --media MEDIA              # from a folder of published clips to both tables
    python -m experiments.calibration SCORES --table TABLE       # a scores.jsonl beside one table

The first scores every method and bound, then compares. Every step but the last is a command that a user could type;
each is printed before it runs. What is scored is kept: the same command goes on where it stopped. docs/calibration.md
says what came out.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from experiments.calibration.build import Calibration
from experiments.calibration.build import calibrate as compare
from experiments.calibration.published import read_published, refuse_unknown
from experiments.calibration.render import to_dict, to_markdown, to_rich
from idlora_pl.benchmark.items import read_prompts
from idlora_pl.cli.tools import BAD_INPUT, run_tool
from idlora_pl.files import replacing
from idlora_pl.results.scores_file import read_scores, row_names
from idlora_pl.scorers.loading import names_of
from idlora_pl.scorers.proof import CHECK, VerifiedFile, examine
from idlora_pl.scorers.registry import CARDS, card_named
from idlora_pl.scorers.weights import WEIGHTS, MissingLibrary, Unavailable

TABLES = Path(__file__).parents[1] / "tables"
BOUNDS = ("target", "same_speaker", "other_speaker")


def main(arguments: list[str] | None = None) -> None:
    """Run the calibration; bad input ends in one sentence and a non-zero exit status.

    Args:
        arguments: For calls from Python; None takes those of the process.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.media is not None:
            _from_clips(options)
        elif options.scores is not None and options.table is not None:
            named = named_rows(options.method)
            calibrate(options.scores, options.table, options.weights or WEIGHTS, options.output, named, options.split)
        else:
            raise ValueError("nothing says what to compare; give SCORES and --table TABLE, or --media MEDIA")
    except BAD_INPUT as error:
        sys.exit(f"calibration: {' '.join(str(error).split())}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.calibration",
        description="Compare scores of the published methods' clips with a published table: order, level, what was "
        "left open. Give SCORES and --table, or --media: then the clips are scored first, against the tables of all "
        "splits, and what is scored already is kept.",
    )
    parser.add_argument("scores", type=Path, nargs="?", help="scores.jsonl with one row a method, and rows of bounds")
    parser.add_argument("--table", type=Path, help="yaml that quotes the published numbers")
    parser.add_argument(
        "--method", action="append", default=[], metavar="ROW=LABEL", help="row of the scores that is a quoted row"
    )
    parser.add_argument("--split", help="split whose clips are compared, or 'all'; by default that of the table")
    parser.add_argument("--media", type=Path, help="folder with published/ and checkpoints/")
    parser.add_argument("--published", type=Path, help="folder of clips with captions.json (MEDIA/published)")
    parser.add_argument("--scorers", default="available", help="as in idlora score; available by default")
    parser.add_argument(
        "--weights", type=Path, help=f"folder of weights (MEDIA/checkpoints, without --media {WEIGHTS})"
    )
    parser.add_argument("--output", type=Path, help="folder for the results (with --media: runs/calibration)")
    return parser


def _from_clips(options: argparse.Namespace) -> None:
    weights: Path = options.weights or options.media / "checkpoints"
    published: Path = options.published or options.media / "published"
    for folder in (published, weights):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder; give --media, --published and --weights")
    run_all(options.media, published, weights, options.scorers, options.output or Path("runs/calibration"))


def run_all(media: Path, published: Path, weights: Path, scorers: str, output: Path) -> None:
    """Prove the scorers, score every method and bound, and compare with the published table of each split."""
    manifest, scores, verified = output / "manifest.json", output / "scores.jsonl", output / "verified.json"
    proved = ["--weights", weights, "--inputs", media, "--verified", verified]
    run("doctor", *proved)
    if waiting := slow_anchors(scorers, media, weights, verified):
        run("doctor", "--check", "--scorers", ",".join(waiting), *proved)
    run("manifest", "make", published, manifest)
    items = read_prompts(manifest, use="scoring")
    methods = list(dict.fromkeys(method for item in items for method in item.clips))
    rows = [("--method", name) for name in methods] + [("--bound", name) for name in BOUNDS]
    for option, name in rows:
        common = ["--row", name, "--scores", scores, "--weights", weights, "--scorers", scorers, "--verified", verified]
        run("score", manifest, option, name, *common)
    for split in dict.fromkeys(item.split for item in items):
        table = TABLES / f"main_{split}.yaml"
        if table.is_file():
            calibrate(scores, table, weights, output / str(split), {}, None)
    run("table", scores, "--html", output / "page")


def slow_anchors(scorers: str, inputs: Path, weights: Path, verified: Path) -> list[str]:
    """Return those of the scorers whose anchor could be measured here and was left out because it takes a while."""
    cards = [card_named(name) for name in names_of(scorers, weights)]
    found = examine(cards, weights, inputs, VerifiedFile(verified), run="never")
    return [one.card.name for one in found if one.anchor == "not run" and one.fixes == (CHECK,)]


def run(command: str, *arguments: object) -> None:
    """Print a command and run it; one that fails ends the calibration with its own sentence."""
    console = Console(soft_wrap=True)
    words = [str(argument) for argument in arguments]
    console.print(f"\n$ idlora {shlex.join([command, *words])}", style="bold", markup=False, highlight=False)
    start = time.monotonic()
    run_tool(command, words)
    console.print(f"({time.monotonic() - start:.0f} s)", style="dim")


def calibrate(
    scores_file: Path, table: Path, weights: Path, output: Path | None, named: dict[str, str], asked_split: str | None
) -> None:
    """Compare the scores of a file with a published table, and print and write what was found.

    Args:
        scores_file: ``scores.jsonl`` with one row a method, and rows of bounds.
        table: Yaml that quotes the published numbers.
        weights: Where weights were looked for.
        output: Folder for ``calibration.md`` and ``calibration.json``; None writes nothing.
        named: Rows of the scores by the label of the quoted row that they are.
        asked_split: Split whose clips are compared, or "all"; None is that of the table.
    """
    published = read_published(table, named)
    scores = read_scores(scores_file)
    refuse_unknown(published, row_names(scores), list(named), str(scores_file))
    split = published.split if asked_split is None else "" if asked_split == "all" else asked_split
    found = compare(scores, published, scores_file, split, lambda score: why_absent(score, weights))
    found = replace(found, remark=f"Weights were looked for in {weights}; --weights names another folder.")
    for part in to_rich(found):
        Console().print(part)
    if output is not None:
        for path in write_calibration(found, output):
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


def named_rows(given: list[str]) -> dict[str, str]:
    """Return the label of each row that was given as ROW=LABEL."""
    found: dict[str, str] = {}
    for text in given:
        row, mark, label = text.partition("=")
        if not (row and mark and label):
            raise ValueError(f"--method {text!r} must be ROW=LABEL, as kling='Kling 2.6 Pro'")
        if row in found:
            raise ValueError(f"--method names the row '{row}' twice; give it once")
        found[row] = label
    return found


if __name__ == "__main__":
    main()
