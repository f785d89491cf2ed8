"""What a study says: its tables, its notes and its numbers, and the files of them."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from idlora_pl.files import replacing
from idlora_pl.report.formats import document, sheets_latex
from idlora_pl.report.sheet import Sheet
from idlora_pl.study.analyse import OpinionRow, opinions, preferences
from idlora_pl.study.answers import Answers, read_answers
from idlora_pl.study.beside import (
    beside_csv,
    beside_data,
    beside_sheet,
    means_beside,
    own_answers,
    shares_beside,
    what_is_missing,
)
from idlora_pl.study.key import read_key
from idlora_pl.study.opinion import doubt_of_few
from idlora_pl.study.published import across_scenarios, published_opinions, published_preferences, read_published
from idlora_pl.study.render import (
    opinion_csv,
    opinion_notes,
    opinion_sheet,
    preference_csv,
    preference_notes,
    preference_sheet,
    to_data,
)

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
