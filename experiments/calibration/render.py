"""A calibration as text: Markdown, tables on screen, and the content of ``calibration.json``.

The sentences under it say on which clips it stands, what is missing, and how to read it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table as RichTable
from rich.text import Text

from experiments.calibration.build import Calibration, Measured
from experiments.calibration.fit import MIN_SPEAKERS, Fit
from experiments.calibration.verdict import size
from idlora_pl.report.table import Column
from idlora_pl.report.text import DASH, interval, number, p_value
from idlora_pl.results.statistics import Interval

_PER_TABLE = 3
"""Scores beside each other in one table, so that it fits a screen."""


@dataclass(frozen=True)
class Block:
    """One table of the text; a line "" is a rule."""

    title: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def blocks(found: Calibration) -> list[Block]:
    """Return the tables: one or more for each published column, and the verdicts."""
    shown: list[Block] = []
    for column, measured in found.columns:
        there = [one for one in measured if one.fit is not None]
        parts = [there[start : start + _PER_TABLE] for start in range(0, len(there), _PER_TABLE)] or [[]]
        shown += [_column(found, column, part) for part in parts]
    verdicts = tuple((one.question, one.sentence) for one in found.verdicts)
    return [*shown, Block("What was left open", ("question", "what these clips say"), verdicts)]


def to_markdown(found: Calibration) -> str:
    """Return the calibration as Markdown."""
    parts = [f"# Calibration: {found.published.caption or found.published.path.name}", ""]
    for block in blocks(found):
        parts += [f"**{block.title}**", "", _line(block.heads), _line(["---"] * len(block.heads))]
        parts += [*(_line(line) for line in block.lines if any(line)), ""]
    return "\n".join([*parts, *(f"- {note}" for note in notes(found))]) + "\n"


def to_rich(found: Calibration) -> list[RichTable | Text]:
    """Return what a rich console prints."""
    shown: list[RichTable | Text] = []
    for block in blocks(found):
        table = RichTable(title=block.title, title_justify="left")
        is_prose = len(block.heads) == 2
        for place, head in enumerate(block.heads):
            table.add_column(Text(head), justify="left" if place == 0 or is_prose else "right", overflow="fold")
        for line in block.lines:
            if any(line):
                table.add_row(*(Text(text) for text in line))
            else:
                table.add_section()
        shown.append(table)
    return [*shown, *(Text(note, style="dim") for note in notes(found))]


def to_dict(found: Calibration) -> dict[str, Any]:
    """Return the content of ``calibration.json``."""
    return {
        "table": str(found.published.path),
        "scores": str(found.scores),
        "split": found.split,
        "n_clips": found.n_clips,
        "n_clips_of_other_splits": found.n_elsewhere,
        "min_speakers": MIN_SPEAKERS,
        "methods": {one.name: one.label for one in found.published.methods},
        "columns": {
            column.metric: {one.candidate.score: asdict(one) for one in measured} for column, measured in found.columns
        },
        "verdicts": [asdict(one) for one in found.verdicts],
    }


def score_name(one: Measured) -> str:
    """Return the name of a score with what a reader must know about it."""
    marks = ["stand-in"] * one.candidate.is_stand_in + ["unverified"] * (not one.is_verified)
    return one.candidate.score + (f" ({', '.join(marks)})" if marks else "")


def _column(found: Calibration, column: Column, shown: Sequence[Measured]) -> Block:
    """Return level and place of each method, published and by each score, and below how well they fit."""
    listed = found.published.methods
    places = _places([one.quoted.get(column.metric) for one in listed], column)
    published = {one.name: place for one, place in zip(listed, places, strict=True)}
    lines = [(name, text, *(_level(one.fit, name, column.digits) for one in shown)) for name, text in published.items()]
    blank = ("",) * (2 + len(shown))
    bounds = list(dict.fromkeys(name for one in shown for name in one.bounds or {}))
    lines += [blank] * bool(bounds)
    lines += [(name, DASH, *(_mean((one.bounds or {}).get(name), column.digits) for one in shown)) for name in bounds]
    fits = [one.fit for one in shown if one.fit is not None]
    if fits:
        cells = [_fit_cells(fit, column.digits) for fit in fits]
        lines += [blank, *((head, "", *(cell[place] for cell in cells)) for place, head in enumerate(_FIT_HEADS))]
    title = f"{column.heading}" if fits else f"{column.heading}: no score (the notes say why)"
    return Block(title, ("method", "published", *(score_name(one) for one in shown)), tuple(lines))


_FIT_HEADS = ("tau (p)", "off", "signed", "covered", "pairs", "clips", "n")


def _fit_cells(fit: Fit, digits: int) -> tuple[str, ...]:
    return (
        f"{number(fit.tau, 2)} ({p_value(fit.p)})",
        _mean(fit.off, digits),
        DASH if fit.bias is None else _signed(fit.bias, digits),
        DASH if fit.covered is None else f"{fit.covered}/{len(fit.levels)}",
        _mean(fit.pairs, 2),
        f"{fit.clips_agreeing}/{fit.n_clips}",
        size(fit).removeprefix("n = "),
    )


def _places(values: Sequence[float | None], column: Column) -> list[str]:
    """Return published values with their places."""
    there = [value for value in values if value is not None]
    better = [[other < value if column.better == "lower" else other > value for other in there] for value in there]
    places = iter(1 + sum(one) for one in better)
    return [DASH if value is None else f"{number(value, column.digits)} ({next(places)})" for value in values]


def _level(fit: Fit | None, method: str, digits: int) -> str:
    level = next((one for one in fit.levels if one.method == method), None) if fit is not None else None
    return DASH if level is None else f"{_mean(level.ours, digits)} ({level.rank})"


def _mean(found: Interval | None, digits: int) -> str:
    if found is None:
        return DASH
    return f"{number(found.mean, digits)} {interval(found.ci_low, found.ci_high, digits)}".strip()


def _signed(found: Interval, digits: int) -> str:
    ends = interval(found.ci_low, found.ci_high, digits, sign=True)
    return f"{number(found.mean, digits, sign=True)} {ends}".strip()


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


_HOW = (
    "Level: mean over the clips that every compared method has the score for; in parentheses the place of the method, "
    "1 the best. Rows without a published value are rows of the scores that are no published method.",
    "tau: Kendall's tau-b of our order of the methods with the published one, 1 the same and -1 the reverse. p: share "
    "of all orders that agree at least as well; it covers the order alone, not the choice of clips.",
    "off: mean absolute difference from the published levels, which is above zero even where nothing is off; signed: "
    "the mean of ours minus published; covered: methods whose 95 % interval holds the published level. A stand-in is "
    "on another scale and has none of them.",
    "pairs: share of pairs of methods that a single clip orders as published, mean over clips; clips: clips that order "
    "all methods as published.",
    f"Intervals are over speakers (of off a bootstrap), given from {MIN_SPEAKERS} speakers on; nothing is decided on "
    "fewer.",
)


def notes(found: Calibration) -> list[str]:
    """Return the sentences in order."""
    return [*_clips(found), *_methods(found), *_left_out(found), *_absent(found), *_HOW, *_unverified(found)]


def _clips(found: Calibration) -> list[str]:
    of = f" of split {found.split}" if found.split else ""
    elsewhere = f"; {found.n_elsewhere} of other splits are left out" if found.n_elsewhere else ""
    clips = "1 clip" if found.n_clips == 1 else f"{found.n_clips} clips"
    return [f"{clips}{of} in {found.scores}{elsewhere}."]


def _methods(found: Calibration) -> list[str]:
    pairs = ", ".join(f"{one.name} is {one.label}" for one in found.published.methods)
    said = [f"Methods: {pairs}."]
    if found.published.nameless:
        said.append(
            f"Not compared, because {found.published.path} names no method for them (--method ROW=LABEL does): "
            f"{', '.join(found.published.nameless)}."
        )
    return said + [f"No number of the row {row}: {why}." for row, why in found.silent.items()]


def _left_out(found: Calibration) -> list[str]:
    """Say which clips and methods are not compared, once for all scores that lack the same."""
    said: dict[str, list[str]] = {}
    for _, measured in found.columns:
        for one in measured:
            parts = [f"{key} ({why})" for key, why in (one.left_out or {}).items()]
            parts += [f"all clips of {method} ({why})" for method, why in (one.without or {}).items()]
            if parts:
                said.setdefault(", ".join(parts), []).append(one.candidate.score)
    return [f"Left out of {', '.join(scores)}: {parts}." for parts, scores in said.items()]


def _absent(found: Calibration) -> list[str]:
    said: dict[str, list[str]] = {}
    for _, measured in found.columns:
        for one in measured:
            if one.fit is None:
                said.setdefault(one.absence, []).append(one.candidate.score)
    lines = [f"No numbers of {', '.join(scores)}: {why}." for why, scores in said.items()]
    return [*lines, *([found.remark] if lines and found.remark else [])]


def _unverified(found: Calibration) -> list[str]:
    doubtful = any(one.fit is not None and not one.is_verified for _, measured in found.columns for one in measured)
    return ["Unverified: the anchor of the scorer had not passed on the machine that scored."] if doubtful else []
