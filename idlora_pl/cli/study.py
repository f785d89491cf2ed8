"""The subcommand `idlora study`: make a study, and analyse its answers or published results."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.text import Text

from idlora_pl.benchmark.items import read_prompts
from idlora_pl.files import replacing
from idlora_pl.report.sheet import fitted
from idlora_pl.report.text import show
from idlora_pl.study.design import Setup, make_plan, write_study
from idlora_pl.study.outcome import own_outcome, published_outcome, write_tables


def study(arguments: list[str]) -> None:
    """Make a page for an A/B or opinion-score study, or analyse the answers (or published results)."""
    parser = argparse.ArgumentParser(prog="idlora study", description=study.__doc__)
    verbs = parser.add_subparsers(required=True, metavar="make | analyse")
    _make_arguments(verbs.add_parser("make", help="write a page for raters and the key for you"))
    _analyse_arguments(verbs.add_parser("analyse", help="preference shares, tests, agreement, opinion scores"))
    options = parser.parse_args(arguments)
    options.run(options)


def _make_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", type=Path, help="new folder: page/ for the raters, key.json for you")
    parser.add_argument("--kind", choices=("ab", "mos"), required=True, help="compare pairs, or rate single clips")
    parser.add_argument(
        "--method", action="append", required=True, metavar="NAME=FOLDER", help="clips of a method; the first is ours"
    )
    parser.add_argument("--reference", type=Path, help="folder of reference clips or sounds with the clips' names")
    parser.add_argument("--prompts", type=Path, help="prompt file whose texts are shown above the clips")
    parser.add_argument(
        "--question", action="append", default=[], metavar="NAME=TEXT", help="instead of the usual ones"
    )
    parser.add_argument("--raters", type=int, default=9, help="how many people will answer (9)")
    parser.add_argument("--attention", type=int, default=2, help="screens per rater that say what to answer (2)")
    parser.add_argument("--seed", type=int, default=0, help="of sides, orders and hidden names (0)")
    parser.add_argument("--common_only", action="store_true", help="leave out items that not every method has")
    parser.set_defaults(run=_make)


def _analyse_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", type=Path, help="folder that `study make` wrote, or a yaml of published results")
    parser.add_argument("--answers", type=Path, help="folder with one json file a rater")
    parser.add_argument("--failures_allowed", type=int, default=0, help="attention screens a rater may fail (0)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the study that a yaml names (runs)")
    parser.add_argument("--output", type=Path, help="json file for the numbers")
    parser.add_argument("--tables", type=Path, help="folder for table.json, .md, .tex and .csv")
    parser.set_defaults(run=_analyse)


def _named(option: str, given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if wrong := [text for text, (name, mark, value) in zip(given, pairs, strict=True) if not (name and mark and value)]:
        raise ValueError(f"--{option} {wrong[0]!r} must be NAME=VALUE")
    found = {name: value for name, _, value in pairs}
    if len(found) < len(given):
        raise ValueError(f"--{option} names one thing twice: {', '.join(given)}")
    return found


def _make(options: argparse.Namespace) -> None:
    items = read_prompts(options.prompts) if options.prompts else []
    setup = Setup(
        kind=options.kind,
        methods={name: Path(folder) for name, folder in _named("method", options.method).items()},
        reference=options.reference,
        texts={item.id: item.prompt for item in items},
        questions=_named("question", options.question),
        n_raters=options.raters,
        n_attention=options.attention,
        seed=options.seed,
        common_only=options.common_only,
    )
    plan = make_plan(setup)
    write_study(plan, options.output)
    n_screens = len(plan.key["trials"])
    said = [f"{n_screens} screens for each of {options.raters} raters, and {options.attention} attention screens"]
    if plan.key["left_out"]:
        said.append(f"left out, because not every method has them: {', '.join(plan.key['left_out'])}")
    said.append(f"give raters {options.output / 'page'} and a code each (r01, r02, ...)")
    said.append(f"keep {options.output / 'key.json'}: it names the methods")
    show(map(Text, said), Console())


def _analyse(options: argparse.Namespace) -> None:
    if options.study.suffix in (".yaml", ".yml"):
        found = published_outcome(options.study, options.runs)
    elif options.answers is None:
        raise ValueError("give --answers, the folder of the raters' json files")
    else:
        found = own_outcome(options.study, options.answers, options.failures_allowed)
    console = Console()
    tables = [table for sheet in found.sheets for table in fitted(sheet, console.width)]
    show([*tables, *(Text(note, style="dim") for note in found.notes)], console)
    written = [] if options.tables is None else write_tables(found, options.tables)
    if options.output is not None:
        with replacing(options.output) as partial:
            partial.write_text(found.to_json())
        written.append(options.output)
    for path in written:
        console.print(f"wrote {path}", markup=False, soft_wrap=True)
