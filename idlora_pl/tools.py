"""The subcommands of `idlora` that need no trainer: adapter, parity, score and table."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import track

from idlora_pl.adapter_tool import adapter
from idlora_pl.data.prompts import read_prompts
from idlora_pl.nano.embedders import load_instruments
from idlora_pl.parity.command import main as parity
from idlora_pl.report import append_scores, read_scores, read_table, to_rich, write_report
from idlora_pl.scoring import refuse_changed, score_files


def table(arguments: list[str]) -> None:
    """Print the table of a scores.jsonl or of a table yaml; with --output also write its files."""
    parser = argparse.ArgumentParser(prog="idlora table", description=table.__doc__)
    parser.add_argument("file", type=Path, help="scores.jsonl or experiments/tables/<name>.yaml")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs that a yaml names")
    parser.add_argument("--output", type=Path, help="folder for table.md, table.json, figure.png and index.html")
    options = parser.parse_args(arguments)
    found, scores = read_table(options.file, runs_dir=options.runs)
    for part in to_rich(found):
        Console().print(part)
    if options.output is not None:
        for path in write_report(found, scores, options.output):
            Console().print(f"wrote {path}")


def score(arguments: list[str]) -> None:
    """Score a folder of clips, ours or another method's, against a prompt file; clips already scored are kept.

    The scorers are those of the nano world. The standard networks of the field are not part of this version.
    """
    parser = argparse.ArgumentParser(prog="idlora score", description=score.__doc__)
    parser.add_argument("prompts", type=Path, help="prompt file; clips are named by its output_name")
    parser.add_argument(
        "--clips", type=Path, help="folder of <output_name>.mp4; without it the real targets are scored"
    )
    parser.add_argument("--row", required=True, help="row of the table")
    parser.add_argument("--scores", type=Path, required=True, help="scores.jsonl to append to")
    options = parser.parse_args(arguments)
    if options.clips is not None and not options.clips.is_dir():
        raise ValueError(f"--clips {options.clips} is not a folder; give the folder that holds the mp4 files")
    entries = read_prompts(options.prompts)
    known = read_scores(options.scores) if options.scores.is_file() else []
    kept = [found for found in known if found.row == options.row]
    refuse_changed(kept, entries, options.clips, options.scores)
    done = {found.key for found in kept}
    left = [entry for entry in entries if entry["output_name"] not in done]
    if options.clips is None and (bare := [entry for entry in left if entry["target_path"] is None]):
        raise ValueError(f"{options.prompts}: entry '{bare[0]['output_name']}' has no target_path; give --clips FOLDER")
    scorer = load_instruments().scorer()
    rows = score_files(scorer, left, options.clips, options.row, options.scores.parent)
    for found in track(rows, description=f"scoring {options.row}", total=len(left)):
        append_scores(options.scores, [found])
    Console().print(f"{options.row}: {len(left)} clips scored, {len(done)} were scored before")


TOOLS: dict[str, Callable[[list[str]], None]] = {"adapter": adapter, "parity": parity, "score": score, "table": table}
