"""`idlora table`: scores as tables and pages."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from idlora_pl.report.source import read_table
from idlora_pl.report.table import COLUMNS, Column
from idlora_pl.report.text import show, to_rich
from idlora_pl.report.yaml_checks import is_published_study
from idlora_pl.scorers.scores import SCORES, Score


def table(
    file: Path,
    *,
    runs: Path = Path("runs"),
    output: Path | None = None,
    html: Path | None = None,
    paired: list[tuple[str, str]] = [],  # noqa: B006 - never changed, and the type of the option
) -> None:
    """Print the table of a scores.jsonl or of a table yaml; write its files, or a page to look and listen.

    Args:
        file: scores.jsonl or experiments/tables/<name>.yaml.
        runs: Folder of the runs that a yaml names.
        output: Folder for table.md, .json, .tex and .csv; of scores also paired.csv, figure.png and index.html.
        html: Folder for a page with copies of all clips, to move and to share.
        paired: A B, once for each pair of rows of a scores.jsonl to compare, A - B.
    """
    if is_published_study(file):
        if html is not None:
            raise ValueError(f"{file} is a study without clips; leave out --html, or give a table with scores")
        from idlora_pl.cli.study import analyse  # loads scipy.stats, which takes a third of this command's time

        analyse(file, runs=runs, tables=output)
        return
    known = known_columns()
    found, scores = read_table(file, runs_dir=runs, known=known, paired=paired)
    console = Console()
    show(to_rich(found, console.width), console)
    written = []
    if output is not None:
        from idlora_pl.report.write import write_report  # loads matplotlib

        written += write_report(found, scores, output, known=known)
    if html is not None:
        from idlora_pl.report.page.folder import write_page  # loads torch, to read and draw clips

        written.append(write_page(found, scores, html, known=known))
    for path in written:
        console.print(f"wrote {path}", markup=False, soft_wrap=True)


def known_columns() -> dict[str, Column]:
    """Return the columns of all scores that scorers give, and those of tables by name."""
    return {score.name: as_column(score) for scores in SCORES.values() for score in scores} | COLUMNS


def as_column(score: Score) -> Column:
    """Return the column of a score."""
    return Column(score.name, score.title, score.better, score.digits, score.worst, score.margin, score.note)
