"""Calibration on the authors' own clips: from a folder of published clips to scores beside the published tables.

Every step is a command that a user could type; this file only orders them, and prints each before it runs. What is
scored is kept: the same command goes on where it stopped. docs/calibration.md says what came out.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from rich.console import Console

from idlora_pl.benchmark.items import read_prompts
from idlora_pl.cli.tools import run_tool
from idlora_pl.scorers.loading import names_of
from idlora_pl.scorers.proof import CHECK, VerifiedFile, examine
from idlora_pl.scorers.registry import card_named

TABLES = Path(__file__).parent / "tables"
BOUNDS = ("target", "same_speaker", "other_speaker")


def main() -> None:
    """Run the calibration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--media", type=Path, required=True, help="folder with published/ and checkpoints/")
    parser.add_argument("--published", type=Path, help="folder of clips with captions.json (MEDIA/published)")
    parser.add_argument("--weights", type=Path, help="folder of weights (MEDIA/checkpoints)")
    parser.add_argument("--scorers", default="available", help="as in idlora score; available by default")
    parser.add_argument("--output", type=Path, default=Path("runs/calibration"), help="folder to write and to go on in")
    options = parser.parse_args()
    weights: Path = options.weights or options.media / "checkpoints"
    published: Path = options.published or options.media / "published"
    for folder in (published, weights):
        if not folder.is_dir():
            sys.exit(f"calibrate: {folder} is not a folder; give --media, --published and --weights")
    run_all(options.media, published, weights, options.scorers, options.output)


def run_all(media: Path, published: Path, weights: Path, scorers: str, output: Path) -> None:
    """Prove the scorers, score every method and bound, and compare with the published table of each split."""
    manifest, scores, verified = output / "manifest.json", output / "scores.jsonl", output / "verified.json"
    proved = ["--weights", weights, "--inputs", media, "--verified", verified]
    run("doctor", *proved)
    if waiting := slow_anchors(scorers, media, weights, verified):
        run("doctor", "--check", "--scorers", ",".join(waiting), *proved)
    run("manifest", "make", published, manifest)
    entries = read_prompts(manifest, use="scoring")
    methods = list(dict.fromkeys(method for entry in entries for method in entry["clips"]))
    rows = [("--method", name) for name in methods] + [("--bound", name) for name in BOUNDS]
    for option, name in rows:
        common = ["--row", name, "--scores", scores, "--weights", weights, "--scorers", scorers, "--verified", verified]
        run("score", manifest, option, name, *common)
    for split in dict.fromkeys(entry["split"] for entry in entries):
        table = TABLES / f"main_{split}.yaml"
        if table.is_file():
            run("calibrate", scores, "--table", table, "--weights", weights, "--output", output / str(split))
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


if __name__ == "__main__":
    main()
