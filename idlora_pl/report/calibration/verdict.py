"""What the clips say about each thing that the authors left open, in one sentence, which may be that they say nothing.

A reading *fits better* only where all of this holds: at least `MIN_SPEAKERS` speakers; its level is nearer to the
published one than that of every other reading, with a 95 % interval (bootstrap over speakers) of the difference that
does not reach zero; and its order of the methods is no worse. Stand-ins decide nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from idlora_pl.report.calibration.candidates import Choice
from idlora_pl.report.calibration.fit import MIN_SPEAKERS, Fit, fit_of, misfits
from idlora_pl.report.calibration.grid import Grid
from idlora_pl.report.table import Column
from idlora_pl.report.text import interval, number, p_value
from idlora_pl.results.intervals import expanded_interval

State = Literal["fits better", "undecided", "cannot be run here"]


@dataclass(frozen=True)
class Evidence:
    """Everything that scores say about one published column.

    Attributes:
        column: The column.
        quoted: Published value by method.
        grids: Grid by score, of the scores that there are values of.
        absent: Why there are none, by score.
    """

    column: Column
    quoted: Mapping[str, float]
    grids: Mapping[str, Grid]
    absent: Mapping[str, str]


@dataclass(frozen=True)
class Verdict:
    """What is said about one choice.

    Attributes:
        question: What is undecided.
        state: Whether something fits better.
        answer: The answer that fits better; "" where none does.
        sentence: The whole of it.
    """

    question: str
    state: State
    answer: str
    sentence: str


def verdict(choice: Choice, evidence: Evidence) -> Verdict:
    """Say what the scores tell about a choice."""
    answers, grids = _measurable(choice, evidence)
    if not grids:
        return Verdict(choice.question, "cannot be run here", "", _why_not(choice, evidence))
    fits = [fit_of(grid, evidence.column, evidence.quoted) for grid in grids]
    shown = f"{_shown(answers, fits)}; {size(fits[0])}{_doubt(grids)}"
    if missing := [answer for answer in choice.answers if answer not in answers]:
        shown += f"; not measured: {', '.join(missing)}"
    if len(answers) == 1:
        return Verdict(choice.question, "undecided", "", f"undecided: {choice.remark} ({shown})")
    best = min(range(len(fits)), key=lambda place: _off(fits[place]))
    against = _objection(best, fits, grids, evidence)
    if not against:
        return Verdict(choice.question, "fits better", answers[best], f"fits better: {answers[best]} ({shown})")
    sentence = f"undecided: {answers[best]} is nearest in level, but {against} ({shown})"
    return Verdict(choice.question, "undecided", "", sentence)


def _measurable(choice: Choice, evidence: Evidence) -> tuple[tuple[str, ...], list[Grid]]:
    """Return the answers that the first scored family can tell apart, with their grids; empty where there is none."""
    for family in choice.families:
        found = [(a, score) for a, score in zip(choice.answers, family, strict=True) if score in evidence.grids]
        grids = _shared([evidence.grids[score] for _, score in found])
        if len(grids) >= min(2, len(choice.answers)):
            return tuple(answer for answer, _ in found), grids
    return (), []


def _why_not(choice: Choice, evidence: Evidence) -> str:
    """Say why a choice cannot be looked at here, and what is known or shown nevertheless."""
    wanted = [score for score in choice.families[0] if score not in evidence.grids]
    why = "; ".join(dict.fromkeys(evidence.absent[score] for score in wanted))
    why = why or "no clip has all of its scores for the same methods"
    stand_ins = _stand_ins(choice, evidence)
    more = [text[0].upper() + text[1:] for text in (choice.remark, *stand_ins) if text]
    return ". ".join([f"cannot be run here: {why}", *more])


def size(fit: Fit) -> str:
    """Return how much a fit stands on, in words.

    Example:
        >>> size(Fit("wer", (), 2, 1, None, None, None, None, None, 0, None))
        'n = 2 clips of 1 speaker, 0 methods'
    """
    clips = f"{fit.n_clips} clip{'' if fit.n_clips == 1 else 's'}"
    people = f"{fit.n_speakers} speaker{'' if fit.n_speakers == 1 else 's'}"
    return f"n = {clips} of {people}, {len(fit.levels)} method{'' if len(fit.levels) == 1 else 's'}"


def _objection(best: int, fits: Sequence[Fit], grids: Sequence[Grid], evidence: Evidence) -> str:
    """Return why the nearest reading is not said to fit better; "" where nothing speaks against it."""
    if fits[best].n_speakers < MIN_SPEAKERS:
        return f"fewer than {MIN_SPEAKERS} speakers decide nothing"
    tau = fits[best].tau
    if any(fit.tau is not None and (tau is None or fit.tau > tau) for fit in fits):
        return "another order of the methods is nearer to the published one"
    published = np.array([evidence.quoted[name] for name in grids[best].methods])
    ours = misfits(grids[best], published)
    for place, grid in enumerate(grids):
        if place != best and expanded_interval(ours - misfits(grid, published), grid.n_speakers)[1] >= 0:
            return "the difference is within chance"
    return ""


def _shared(grids: Sequence[Grid]) -> list[Grid]:
    """Cut grids to the clips that all of them have; empty where there are none, or where their methods differ."""
    if not grids:
        return []
    keys = set(grids[0].keys).intersection(*(grid.keys for grid in grids))
    same = all(grid.methods == grids[0].methods for grid in grids)
    return [grid.on(keys) for grid in grids] if keys and same else []


def _shown(answers: Sequence[str], fits: Sequence[Fit]) -> str:
    """Return level and order of each answer: "the reference: 0.031 [0.010, 0.052] off, tau 1.00 (p 0.008)"."""
    return "; ".join(_measured(answer, fit) for answer, fit in zip(answers, fits, strict=True))


def _measured(answer: str, fit: Fit) -> str:
    off = fit.off
    level = "" if off is None else f" {number(off.mean, 3)} {interval(off.ci_low, off.ci_high, 3)}".rstrip() + " off,"
    return f"{answer}:{level} tau {number(fit.tau, 2)} (p {p_value(fit.p)})"


def _stand_ins(choice: Choice, evidence: Evidence) -> list[str]:
    """Return what stand-ins show, which decides nothing."""
    said = []
    for family in choice.stand_ins:
        there = set(family) <= evidence.grids.keys()
        grids = _shared([evidence.grids[score] for score in family]) if there else []
        fits = [fit_of(grid, evidence.column, evidence.quoted, is_stand_in=True) for grid in grids]
        if fits:
            shown = f"{_shown(choice.answers, fits)}; {size(fits[0])}{_doubt(grids)}"
            said.append(f"the stand-in {family[0]} decides nothing ({shown})")
    return said


def _doubt(grids: Sequence[Grid]) -> str:
    return "" if all(grid.is_verified for grid in grids) else "; unverified"


def _off(fit: Fit) -> float:
    return np.inf if fit.off is None or fit.off.mean is None else fit.off.mean
