"""The subcommand `idlora study`: make a study, and analyse its answers or published results."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from idlora_pl.data.prompts import read_prompts
from idlora_pl.files import replacing
from idlora_pl.study.analyse import opinions, preferences, published_opinions, published_preferences, read_published
from idlora_pl.study.answers import Answers, read_answers, read_key
from idlora_pl.study.beside import beside_data, beside_table, means_beside, own_answers, shares_beside
from idlora_pl.study.design import Setup, make_plan
from idlora_pl.study.render import DASH, opinion_notes, opinion_table, preference_notes, preference_table, to_data
from idlora_pl.study.write import write_study


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
    entries = read_prompts(options.prompts) if options.prompts else []
    setup = Setup(
        kind=options.kind,
        methods={name: Path(folder) for name, folder in _named("method", options.method).items()},
        reference=options.reference,
        texts={entry["output_name"]: entry["prompt"] for entry in entries},
        questions=_named("question", options.question),
        n_raters=options.raters,
        n_attention=options.attention,
        seed=options.seed,
        common_only=options.common_only,
    )
    plan = make_plan(setup)
    write_study(plan, options.output)
    console = Console()
    n_screens = len(plan.key["trials"])
    console.print(f"{n_screens} screens for each of {options.raters} raters, and {options.attention} attention screens")
    if plan.key["left_out"]:
        console.print(f"left out, because not every method has them: {', '.join(plan.key['left_out'])}")
    console.print(f"give raters {options.output / 'page'} and a code each (r01, r02, ...)")
    console.print(f"keep {options.output / 'key.json'}: it names the methods")


def _analyse(options: argparse.Namespace) -> None:
    console = Console()
    if options.study.suffix in (".yaml", ".yml"):
        notes, data = _published(options.study, console, options.runs)
    else:
        notes, data = _own(options, console)
    for note in notes:
        console.print(note, style="dim")
    if options.output is not None:
        with replacing(options.output) as partial:
            partial.write_text(json.dumps(data | {"notes": notes}, indent=1) + "\n")
        console.print(f"wrote {options.output}")


def _published(path: Path, console: Console, runs: Path) -> tuple[list[str], dict[str, list[dict[str, object]]]]:
    """Print published results, and our own study beside them; return the notes and the numbers."""
    held = read_published(path)
    if held["kind"] == "ab":
        shares = published_preferences(held, str(path))
        console.print(preference_table(shares, held["title"]))
        notes, data = preference_notes(held, shares), {"published": to_data(shares)}
    else:
        scores = published_opinions(held)
        console.print(opinion_table(scores, held["title"]))
        notes, data = opinion_notes(held, scores), {"published": to_data(scores)}
    answers = own_answers(held, runs, str(path))
    if answers is None:
        missing = f"ours: {DASH}, not measured" + (f"; run `{held['command']}`" if "command" in held else "")
        return [*notes, missing], data
    rows = shares_beside(held, answers) if held["kind"] == "ab" else means_beside(held, answers)
    console.print(beside_table(rows, held["kind"]))
    covers = "Covered: our 95 % interval over items and raters holds the published number."
    return [*notes, *_counted(answers), covers], data | {"ours": beside_data(rows)}


def _counted(answers: Answers, n_asked: int | None = None) -> list[str]:
    """Say whose answers count."""
    raters = {answer.rater for answer in answers.kept}
    asked = "" if n_asked is None else f" of {n_asked}"
    notes = [f"{len(raters)} raters{asked} count; {answers.n_missing} of their answers are missing."]
    for rater, failed in answers.inattentive.items():
        notes.append(f"Rater {rater} is left out: {failed} attention screens failed.")
    return notes


def _own(options: argparse.Namespace, console: Console) -> tuple[list[str], dict[str, list[dict[str, object]]]]:
    """Print the tables of an own study; return the notes and the numbers."""
    if options.answers is None:
        raise ValueError("give --answers, the folder of the raters' json files")
    key = read_key(options.study)
    answers = read_answers(key, options.answers, failures_allowed=options.failures_allowed)
    notes = _counted(answers, len(key["sides"]))
    if not answers.kept:
        raise ValueError(f"no answer counts: every rater failed attention screens ({', '.join(answers.inattentive)})")
    data: dict[str, list[dict[str, object]]] = {}
    if key["kind"] == "ab":
        rows = preferences(answers)
        console.print(preference_table(rows, "A/B study"))
        data["preferences"] = to_data(rows)
        notes.append("p (answers): sign test over answers; p (items): each item counts once, by its majority.")
        return notes, data
    for question in key["questions"]:
        found = opinions(answers, question)
        console.print(opinion_table(found, f"Mean opinion score: {question}"))
        data[question] = to_data(found)
    notes.append(
        "± is half of a 95 % t-interval over answers; difference: interval over items and raters; p over items."
    )
    return notes, data
