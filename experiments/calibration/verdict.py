"""What the clips say about each thing that the authors left open, in one sentence, which may be that they say nothing.

The authors publish one number a column and do not say which of several measurements it is. A *reading* is a score
that could be the column itself, so its level can be compared. A *stand-in* is another network that measures the same
thing on another scale: only its order of the methods can be compared. Both point the way their column points.

A reading *fits better* only where all of this holds: at least `MIN_SPEAKERS` speakers; its level is nearer to the
published one than that of every other reading, with a 95 % interval (bootstrap over speakers) of the difference that
does not reach zero; and its order of the methods is no worse. Stand-ins decide nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from experiments.calibration.fit import MIN_SPEAKERS, Fit, Grid, fit_of, misfits
from idlora_pl.report.table import Column
from idlora_pl.report.text import interval, number, p_value
from idlora_pl.results.intervals import expanded_interval


@dataclass(frozen=True)
class Candidate:
    """A score that could be, or stand in for, a published column.

    Attributes:
        score: Its name in ``scores.jsonl``.
        is_stand_in: Whether it is on another scale than any reading of the column.
    """

    score: str
    is_stand_in: bool = False


@dataclass(frozen=True)
class Choice:
    """Something that the authors did not say, with one score for each answer.

    Attributes:
        question: What is undecided.
        answers: The possible answers.
        families: Scores in the order of the answers; the scores of one family differ in nothing but the answer. The
            first family that is scored decides.
        stand_ins: Families on another scale, which decide nothing but are shown.
        remark: What is known from elsewhere.
    """

    question: str
    answers: tuple[str, ...]
    families: tuple[tuple[str, ...], ...]
    stand_ins: tuple[tuple[str, ...], ...] = ()
    remark: str = ""

    def __post_init__(self) -> None:
        """Refuse a family that does not have one score for each answer."""
        for family in (*self.families, *self.stand_ins):
            if len(family) != len(self.answers):
                raise ValueError(f"choice '{self.question}' has the answers {self.answers}, a family is {family}")


def _group(readings: str, stand_ins: str = "") -> tuple[Candidate, ...]:
    listed = [Candidate(name) for name in readings.split()]
    return (*listed, *(Candidate(name, is_stand_in=True) for name in stand_ins.split()))


GROUPS: tuple[tuple[Candidate, ...], ...] = (
    _group(
        "spk_sim_idlora spk_sim_idlora_target spk_sim spk_sim_target spk_sim_ecapa spk_sim_ecapa_target",
        "spk_sim_dvector spk_sim_dvector_target",
    ),
    _group("face_sim", "face_sim_mobilefacenet"),
    _group("lse_d"),
    _group("lse_c", "lip_coherence_lrasd lip_corr_landmarks"),
    _group("clap_environment clap_style clap_sounds clap_environment_16k clap_style_16k clap_sounds_16k"),
    _group("wer wer_standard", "wer_grammar"),
)
"""Scores that are candidates of the same column; a column is named after one of its readings."""

CHOICES = (
    Choice(
        "Spk Sim compares with",
        ("the reference", "the target"),
        (
            ("spk_sim_idlora", "spk_sim_idlora_target"),
            ("spk_sim", "spk_sim_target"),
            ("spk_sim_ecapa", "spk_sim_ecapa_target"),
        ),
        (("spk_sim_dvector", "spk_sim_dvector_target"),),
    ),
    Choice(
        "The network of Spk Sim is",
        ("the authors' hybrid", "WavLM SV", "ECAPA"),
        (
            ("spk_sim_idlora", "spk_sim", "spk_sim_ecapa"),
            ("spk_sim_idlora_target", "spk_sim_target", "spk_sim_ecapa_target"),
        ),
    ),
    Choice(
        "Face Sim compares with",
        ("the target",),
        (("face_sim",),),
        (("face_sim_mobilefacenet",),),
        "every face score here compares with the target, so no other reading can be measured; the published tables "
        "themselves speak for the target, because the Wan2.2 rows, which animate its first frame, have the highest "
        "Face Sim on the hard split",
    ),
    Choice(
        "The text of CLAP is",
        ("the environment", "the speaking style", "all sounds"),
        (
            ("clap_environment", "clap_style", "clap_sounds"),
            ("clap_environment_16k", "clap_style_16k", "clap_sounds_16k"),
        ),
    ),
    Choice(
        "CLAP hears the sound",
        ("as it is", "through 16 kHz"),
        (
            ("clap_environment", "clap_environment_16k"),
            ("clap_style", "clap_style_16k"),
            ("clap_sounds", "clap_sounds_16k"),
        ),
    ),
    Choice("The normaliser of WER is", ("the authors'", "Whisper's"), (("wer", "wer_standard"),)),
)
"""What is undecided, in the order in which it is printed."""


def candidates_of(column: str) -> tuple[Candidate, ...]:
    """Return the candidates of a published column; for a column that no group knows, the score of its name.

    Example:
        >>> [candidate.score for candidate in candidates_of("face_sim")]
        ['face_sim', 'face_sim_mobilefacenet']
    """
    readings = ((group, {one.score for one in group if not one.is_stand_in}) for group in GROUPS)
    return next((group for group, names in readings if column in names), (Candidate(column),))


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
