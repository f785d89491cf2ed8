"""`idlora study`: make a study, and analyse its answers or published results."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from idlora_pl.files import replacing
from idlora_pl.report.sheet import fitted
from idlora_pl.report.text import show
from idlora_pl.study.design import Setup, make_plan, write_study
from idlora_pl.study.outcome import own_outcome, published_outcome, write_tables


def make(
    output: Path,
    *,
    kind: Literal["ab", "mos"],
    method: list[str],
    reference: Path | None = None,
    prompts: Path | None = None,
    question: list[str] = [],  # noqa: B006 - never changed, and the type of the option
    raters: int = 9,
    attention: int = 2,
    seed: int = 0,
    common_only: bool = False,
) -> None:
    """Write a page for raters and the key for you.

    Args:
        output: New folder: page/ for the raters, key.json for you.
        kind: Compare pairs, or rate single clips.
        method: NAME=FOLDER, once for each method; the first is ours.
        reference: Folder of reference clips or sounds with the clips' names.
        prompts: Prompt file whose texts are shown above the clips.
        question: NAME=TEXT, once for each question, instead of the usual ones.
        raters: How many people will answer.
        attention: Screens per rater that say what to answer.
        seed: Of sides, orders and hidden names.
        common_only: Leave out items that not every method has.
    """
    setup = Setup(
        kind=kind,
        methods={name: Path(folder) for name, folder in _named("method", method).items()},
        reference=reference,
        texts={} if prompts is None else _texts(prompts),
        questions=_named("question", question),
        n_raters=raters,
        n_attention=attention,
        seed=seed,
        common_only=common_only,
    )
    plan = make_plan(setup)
    write_study(plan, output)
    said = [f"{len(plan.key['trials'])} screens for each of {raters} raters, and {attention} attention screens"]
    if plan.key["left_out"]:
        said.append(f"left out, because not every method has them: {', '.join(plan.key['left_out'])}")
    said.append(f"give raters {output / 'page'} and a code each (r01, r02, ...)")
    said.append(f"keep {output / 'key.json'}: it names the methods")
    show(map(Text, said), Console())


def analyse(
    study: Path,
    *,
    answers: Path | None = None,
    failures_allowed: int = 0,
    runs: Path = Path("runs"),
    output: Path | None = None,
    tables: Path | None = None,
) -> None:
    """Print preference shares, tests, agreement and opinion scores of a study, or of published results.

    Args:
        study: Folder that `study make` wrote, or a yaml of published results.
        answers: Folder with one json file a rater.
        failures_allowed: Attention screens a rater may fail.
        runs: Folder of the study that a yaml names.
        output: json file for the numbers.
        tables: Folder for table.json, .md, .tex and .csv.
    """
    if study.suffix in (".yaml", ".yml"):
        found = published_outcome(study, runs)
    elif answers is None:
        raise ValueError("give --answers, the folder of the raters' json files")
    else:
        found = own_outcome(study, answers, failures_allowed)
    console = Console()
    sheets = [fitted(sheet, console.width) for sheet in found.sheets]
    show([*sheets, *(Text(note, style="dim") for note in found.notes)], console)
    written = [] if tables is None else write_tables(found, tables)
    if output is not None:
        with replacing(output) as partial:
            partial.write_text(found.to_json())
        written.append(output)
    for path in written:
        console.print(f"wrote {path}", markup=False, soft_wrap=True)


VERBS = {"make": make, "analyse": analyse}


def _texts(prompts: Path) -> dict[str, str]:
    # loads torch, which no other part of a study needs
    from idlora_pl.benchmark.items import read_prompts

    return {item.id: item.prompt for item in read_prompts(prompts)}


def _named(option: str, given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if wrong := [text for text, (name, mark, value) in zip(given, pairs, strict=True) if not (name and mark and value)]:
        raise ValueError(f"--{option} {wrong[0]!r} must be NAME=VALUE")
    found = {name: value for name, _, value in pairs}
    if len(found) < len(given):
        raise ValueError(f"--{option} names one thing twice: {', '.join(given)}")
    return found
