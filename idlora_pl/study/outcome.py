"""What a study says: its tables, its notes and its numbers, and the files of them; and that beside what was published.

Beside the published one stand the same questions, and whether our interval covers their number.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from idlora_pl.files import replacing
from idlora_pl.report.formats import csv_text, document, sheets_latex
from idlora_pl.report.sheet import Sheet
from idlora_pl.study.answers import Answer, Answers, OpinionRow, opinions, preferences, read_answers
from idlora_pl.study.design import read_key
from idlora_pl.study.published import across_scenarios, published_opinions, published_preferences, read_published
from idlora_pl.study.render import (
    DASH,
    opinion_csv,
    opinion_notes,
    opinion_sheet,
    percent,
    preference_csv,
    preference_notes,
    preference_sheet,
    to_data,
)
from idlora_pl.study.statistics import doubt_of_few, n_of_each, two_way_interval

_HOW = (
    "[95 %]: interval over items and raters, as if both were drawn anew (docs/studies.md); none where all answers are "
    "equal."
)


@dataclass
class Outcome:
    """What is printed and written of a study.

    Attributes:
        sheets: The tables.
        notes: Sentences under them.
        data: The numbers, for a JSON file.
        csvs: Content of the CSV files by name.
    """

    sheets: list[Sheet] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    csvs: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the numbers and the notes."""
        return json.dumps({**self.data, "notes": self.notes}, indent=1) + "\n"


def write_tables(found: Outcome, folder: Path) -> list[Path]:
    """Write ``table.json``, ``.md``, ``.tex`` and the CSV files, each whole or not at all; return their paths."""
    caption = found.sheets[0].title
    contents = {
        "table.json": found.to_json(),
        "table.md": document(found.sheets, found.notes),
        "table.tex": sheets_latex(found.sheets, caption, found.notes),
        **found.csvs,
    }
    for name, content in contents.items():
        with replacing(folder / name) as partial:
            partial.write_text(content, encoding="utf-8")
    return [folder / name for name in contents]


def published_outcome(path: Path, runs: Path) -> Outcome:
    """Return published results, and our own study beside them where it has answers."""
    held = read_published(path)
    found = Outcome()
    if held["kind"] == "ab":
        shares = published_preferences(held)
        found.sheets.append(preference_sheet(shares, held["title"]))
        found.notes += preference_notes(held, shares)
        found.data["published"], found.csvs["table.csv"] = to_data(shares), preference_csv(shares)
    else:
        scores = published_opinions(held)
        found.sheets.append(opinion_sheet(scores, held["title"]))
        across = across_scenarios(scores)
        found.notes += opinion_notes(held, across)
        found.data["across_scenarios"] = [] if across is None else [asdict(across)]
        found.data["published"], found.csvs["table.csv"] = to_data(scores), opinion_csv({"": scores})
    answers = own_answers(held, runs, str(path))
    if answers is None:
        found.notes.append(what_is_missing(held, runs))
        return found
    rows = shares_beside(held, answers) if held["kind"] == "ab" else means_beside(held, answers)
    found.sheets.append(beside_sheet(rows, held["kind"]))
    found.data["ours"], found.csvs["beside.csv"] = beside_data(rows), beside_csv(rows, held["kind"])
    found.notes += [*_counted(answers), "Covered: our 95 % interval over items and raters holds the published number."]
    found.notes += doubt_of_few([(row.n_items, row.n_raters) for row in rows])
    return found


def own_outcome(folder: Path, answers_folder: Path, failures_allowed: int) -> Outcome:
    """Return what the answers to an own study say."""
    key = read_key(folder)
    answers = read_answers(key, answers_folder, failures_allowed=failures_allowed)
    found = Outcome(notes=_counted(answers, len(key["sides"])))
    if not answers.kept:
        raise ValueError(
            f"{answers_folder}: no answer counts; every rater failed attention screens "
            f"({', '.join(answers.inattentive)}) or answered nothing"
        )
    if key["kind"] == "ab":
        rows = preferences(answers)
        found.sheets.append(preference_sheet(rows, "A/B study"))
        found.data["preferences"], found.csvs["table.csv"] = to_data(rows), preference_csv(rows)
        found.notes.append(f"{_HOW} Share and p: of the decided answers; p that both are as likely.")
        found.notes += doubt_of_few([(row.found.n_items, row.found.n_raters) for row in rows])
        return found
    by_question: dict[str, list[OpinionRow]] = {}
    for question in key["questions"]:
        by_question[question] = opinions(answers, question)
        found.sheets.append(opinion_sheet(by_question[question], f"Mean opinion score: {question}"))
        found.data[question] = to_data(by_question[question])
    found.csvs["table.csv"] = opinion_csv(by_question)
    found.notes.append(f"{_HOW} Difference and p: of the first two methods, rated by the same rater on the same item.")
    scores = [one for rows in by_question.values() for row in rows for one in row.scores.values()]
    found.notes += doubt_of_few([(one.n_items, one.n_raters) for one in scores])
    return found


def _counted(answers: Answers, n_asked: int | None = None) -> list[str]:
    """Say whose answers count."""
    raters = {answer.rater for answer in answers.kept}
    asked = "" if n_asked is None else f" of {n_asked}"
    notes = [f"{len(raters)} raters{asked} count; {answers.n_missing} of their answers are missing."]
    for rater, failed in answers.inattentive.items():
        notes.append(f"Rater {rater} is left out: {failed} attention screens failed or not answered.")
    return notes


ANSWERS = "answers"
"""Folder of the answers in the folder of a study that a table names."""


@dataclass(frozen=True)
class Beside:
    """One published number and ours.

    Attributes:
        what: What was compared or rated.
        question: Name of the question, or of the method that was rated.
        published: The published number.
        ours: Ours; None where our study lacks it.
        low: Lower end of its 95 % interval over items and raters; None with one of either, and where no spread is seen.
        high: Upper end of it.
        n: Our answers.
        n_items: Items of them.
        n_raters: Raters of them.
    """

    what: str
    question: str
    published: float
    ours: float | None
    low: float | None
    high: float | None
    n: int
    n_items: int = 0
    n_raters: int = 0

    @property
    def difference(self) -> float | None:
        """Ours minus published; None where our study lacks it."""
        return None if self.ours is None else self.ours - self.published

    @property
    def covered(self) -> bool | None:
        """Whether our interval holds the published number; None without an interval."""
        return None if self.low is None or self.high is None else self.low <= self.published <= self.high


def own_answers(held: Mapping[str, Any], runs_dir: Path, where: str) -> Answers | None:
    """Read the study that a yaml of published results names under `run`; None where it has no answers yet.

    Raises:
        ValueError: The study is of the other kind, or its answers cannot be used.
    """
    folder = runs_dir / str(held.get("run", ""))
    if "run" not in held or not (folder / "key.json").is_file():
        return None
    key = read_key(folder)
    if key["kind"] != held["kind"]:
        raise ValueError(
            f"{where}: run '{held['run']}' is a study of kind {key['kind']}, the table is of {held['kind']}"
        )
    return read_answers(key, folder / ANSWERS) if any((folder / ANSWERS).glob("*.json")) else None


def what_is_missing(held: Mapping[str, Any], runs_dir: Path) -> str:
    """Say what must be done before our own study stands beside the published one."""
    folder = runs_dir / str(held.get("run", ""))
    if "run" in held and (folder / "key.json").is_file():
        return f"ours: {DASH}, not measured; collect answers into {folder / ANSWERS}"
    return f"ours: {DASH}, not measured" + (f"; run `{held['command']}`" if "command" in held else "")


def shares_beside(held: Mapping[str, Any], answers: Answers) -> list[Beside]:
    """Compare the share of wins among decided answers; `methods` of the yaml says which comparison is whose."""
    names = {label: method for method, label in held.get("methods", {}).items()}
    rows = []
    for comparison, by_question in held["shares"].items():
        for question, (wins, _, losses) in by_question.items():
            given = [
                answer
                for answer in answers.kept
                if answer.question == question and answer.value and answer.methods[1:] == (names.get(comparison),)
            ]
            won = {(answer.item, answer.rater): float(answer.value > 0) for answer in given}
            if wins + losses:
                rows.append(_beside(comparison, question, wins / (wins + losses), won, are_shares=True))
    return rows


def means_beside(held: Mapping[str, Any], answers: Answers) -> list[Beside]:
    """Compare mean opinion scores by scenario and method; `methods` of the yaml says which method is whose."""
    names = {label: method for method, label in held.get("methods", {}).items()}
    rows = []
    for scenario, by_method in held["scores"].items():
        for label, (mean, _) in by_method.items():
            given = [one for one in answers.kept if _is_of(one, scenario) and one.methods == (names.get(label, label),)]
            rows.append(_beside(scenario, label, mean, {(one.item, one.rater): one.value for one in given}))
    return rows


def _is_of(answer: Answer, scenario: str) -> bool:
    return scenario == "overall" or answer.item.split("__")[0] in (scenario, scenario.replace(" ", "_"))


def _beside(
    what: str, question: str, published: float, values: Mapping[tuple[str, str], float], *, are_shares: bool = False
) -> Beside:
    if not values:
        return Beside(what, question, published, None, None, None, 0)
    low, high = two_way_interval(values, are_shares=are_shares) or (None, None)
    return Beside(
        what, question, published, sum(values.values()) / len(values), low, high, len(values), *n_of_each(values)
    )


def beside_sheet(rows: Sequence[Beside], kind: str) -> Sheet:
    """Return the table of ours beside the published numbers."""
    title, second = {
        "ab": ("ours beside the published study: share of wins among decided answers, percent", "question"),
        "mos": ("ours beside the published study: mean opinion score", "method"),
    }[kind]
    shown = percent if kind == "ab" else "{:.2f}".format
    lines = []
    for row in rows:
        ends = "" if row.low is None or row.high is None else f" [{shown(row.low)}, {shown(row.high)}]"
        ours = DASH if row.ours is None else f"{shown(row.ours)}{ends}"
        scale = 100 if kind == "ab" else 1
        gap = DASH if row.ours is None else f"{scale * (row.ours - row.published):+.{1 if kind == 'ab' else 2}f}"
        covered = {True: "yes", False: "no", None: DASH}[row.covered]
        both = f"{row.n_items} / {row.n_raters}" if row.n else DASH
        lines.append((row.what, row.question, shown(row.published), ours, str(row.n), both, gap, covered))
    heads = ("compared", second, "published", "ours [95 %]", "n", "items / raters", "difference", "covered")
    return Sheet(heads, tuple(lines), title)


def beside_csv(rows: Sequence[Beside], kind: str) -> str:
    """Return ours beside the published numbers as CSV."""
    heads = ["compared", {"ab": "question", "mos": "method"}[kind], "published", "ours", "ci_low", "ci_high", "n"]
    lines = [
        [row.what, row.question, row.published, row.ours, row.low, row.high, row.n, row.n_items, row.n_raters]
        + [row.difference, row.covered]
        for row in rows
    ]
    return csv_text([*heads, "n_items", "n_raters", "difference", "covered"], lines)


def beside_data(rows: Sequence[Beside]) -> list[dict[str, Any]]:
    """Return the rows for a JSON file."""
    return [asdict(row) | {"difference": row.difference, "covered": row.covered} for row in rows]
