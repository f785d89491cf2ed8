"""The subcommands of `idlora` that need no trainer."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from idlora_pl.adapter_tool import adapter
from idlora_pl.data.manifest_tool import manifest
from idlora_pl.parity.command import main as parity
from idlora_pl.report import read_table, to_rich, write_report
from idlora_pl.scorers.tool import doctor
from idlora_pl.scoring.tool import score
from idlora_pl.study.analyse import is_published_study
from idlora_pl.study.tool import study


def table(arguments: list[str]) -> None:
    """Print the table of a scores.jsonl or of a table yaml; with --output also write its files."""
    parser = argparse.ArgumentParser(prog="idlora table", description=table.__doc__)
    parser.add_argument("file", type=Path, help="scores.jsonl or experiments/tables/<name>.yaml")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs that a yaml names")
    parser.add_argument("--output", type=Path, help="folder for table.md, table.json, figure.png and index.html")
    options = parser.parse_args(arguments)
    if is_published_study(options.file):
        study(
            [
                "analyse",
                str(options.file),
                *(["--output", str(options.output / "table.json")] if options.output else []),
            ]
        )
        return
    found, scores = read_table(options.file, runs_dir=options.runs)
    for part in to_rich(found):
        Console().print(part)
    if options.output is not None:
        for path in write_report(found, scores, options.output):
            Console().print(f"wrote {path}")


TOOLS: dict[str, Callable[[list[str]], None]] = {
    "adapter": adapter,
    "doctor": doctor,
    "manifest": manifest,
    "parity": parity,
    "score": score,
    "study": study,
    "table": table,
}
