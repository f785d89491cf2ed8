"""`idlora table`: scores as tables and pages."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from idlora_pl.report.source import read_table
from idlora_pl.report.table import COLUMNS, Column
from idlora_pl.report.text import show, to_rich
from idlora_pl.report.yaml_checks import is_published_study
from idlora_pl.scorers.scores import SCORES, Score


def table(arguments: list[str]) -> None:
    """Print the table of a scores.jsonl or of a table yaml; write its files, or a page to look and listen."""
    parser = argparse.ArgumentParser(prog="idlora table", description=table.__doc__)
    parser.add_argument("file", type=Path, help="scores.jsonl or experiments/tables/<name>.yaml")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs that a yaml names")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for table.md, .json, .tex and .csv; of scores also paired.csv, figure.png and index.html",
    )
    parser.add_argument("--html", type=Path, help="folder for a page with copies of all clips, to move and to share")
    parser.add_argument(
        "--paired",
        nargs=2,
        action="append",
        default=[],
        metavar=("A", "B"),
        help="compare rows of a scores.jsonl, A - B",
    )
    options = parser.parse_args(arguments)
    if is_published_study(options.file):
        if options.html is not None:
            raise ValueError(f"{options.file} is a study without clips; leave out --html, or give a table with scores")
        tables = ["--tables", str(options.output)] if options.output else []
        from idlora_pl.cli.study import study  # loads scipy.stats, which takes a third of this command's time

        study(["analyse", str(options.file), "--runs", str(options.runs), *tables])
        return
    known = known_columns()
    paired = [(a, b) for a, b in options.paired]
    found, scores = read_table(options.file, runs_dir=options.runs, known=known, paired=paired)
    console = Console()
    show(to_rich(found, console.width), console)
    written = []
    if options.output is not None:
        from idlora_pl.report.write import write_report  # loads matplotlib

        written += write_report(found, scores, options.output, known=known)
    if options.html is not None:
        from idlora_pl.report.page.folder import write_page  # loads torch, to read and draw clips

        written.append(write_page(found, scores, options.html, known=known))
    for path in written:
        console.print(f"wrote {path}", markup=False, soft_wrap=True)


def known_columns() -> dict[str, Column]:
    """Return the columns of all scores that scorers give, and those of tables by name."""
    return {score.name: as_column(score) for scores in SCORES.values() for score in scores} | COLUMNS


def as_column(score: Score) -> Column:
    """Return the column of a score."""
    return Column(score.name, score.title, score.better, score.digits, score.worst, score.margin, score.note)
