"""From answers to the rows of a study's tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from idlora_pl.study.answers import Answer, Answers
from idlora_pl.study.opinion import Opinion, n_of_each, opinion, two_way_interval, two_way_p_value
from idlora_pl.study.statistics import Ratings, krippendorff_alpha

SCENARIO_MARK = "__"
"""An item "guitar__4158" belongs to the scenario "guitar"."""


@dataclass(frozen=True)
class Preference:
    """How often one of two methods was preferred.

    Attributes:
        wins: Answers for the first method.
        ties: Answers for neither.
        losses: Answers for the second method.
        p: Two-sided p-value, over items and raters, that both are as likely among decided answers; None where there
            is one item or one rater, and for published shares.
        low: Lower end of the 95 % interval of the share of wins among wins and losses, over items and raters, or None.
        high: Upper end of it.
        n_items: Items of the decided answers; 0 for published shares.
        n_raters: Raters of them; 0 for published shares.
    """

    wins: int
    ties: int
    losses: int
    p: float | None = None
    low: float | None = None
    high: float | None = None
    n_items: int = 0
    n_raters: int = 0

    def __post_init__(self) -> None:
        """Refuse a question without answers."""
        if self.n == 0:
            raise ValueError("an A/B question has no answers; collect some before analysing it")

    @property
    def n(self) -> int:
        """Number of answers."""
        return self.wins + self.ties + self.losses

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of wins, ties and losses."""
        return self.wins / self.n, self.ties / self.n, self.losses / self.n


@dataclass(frozen=True)
class PreferenceRow:
    """One question of one comparison.

    Attributes:
        comparison: "a vs b".
        question: Name of the question.
        found: Counts and tests.
        alpha: Krippendorff's alpha of the raters (nominal); None where it cannot be computed.
        published: Shares in percent as they were published; None for our own studies.
        p_least: Smallest p-value of a sign test that takes answers for independent, over all counts of answers that
            round to the published shares; None for our own.
        p_worst: Largest one.
    """

    comparison: str
    question: str
    found: Preference
    alpha: float | None = None
    published: tuple[float, float, float] | None = None
    p_least: float | None = None
    p_worst: float | None = None


@dataclass(frozen=True)
class OpinionRow:
    """Opinion scores of one scenario, one entry a method.

    Attributes:
        scenario: Name of the scenario; "overall" for all items.
        scores: By method.
        p: Two-sided p-value of the first two methods' difference over items and raters; None where there is one
            method, one item or one rater, and for published numbers.
        gap: First minus second method with its 95 % interval over items and raters; None for published numbers.
        alpha: Krippendorff's alpha (interval) over the methods' trials.
    """

    scenario: str
    scores: dict[str, Opinion]
    p: float | None = None
    gap: tuple[float, float | None, float | None] | None = None
    alpha: float | None = None


def preferences(answers: Answers) -> list[PreferenceRow]:
    """Summarise an A/B study, one row per comparison and question."""
    rows = []
    for pair in dict.fromkeys(answer.methods for answer in answers.kept):
        for question in dict.fromkeys(answer.question for answer in answers.kept):
            given = _values(a for a in answers.kept if (a.methods, a.question) == (pair, question))
            if not given:
                continue
            alpha = krippendorff_alpha(given, "nominal")
            rows.append(PreferenceRow(" vs ".join(pair), question, _preference(given), alpha))
    return rows


def _preference(given: Ratings) -> Preference:
    """Summarise answers of +1 (first method), 0 (tie) and -1 (second) by item and rater."""
    wins, ties, losses = (sum(value == side for value in given.values()) for side in (1, 0, -1))
    won = {place: float(value > 0) for place, value in given.items() if value}
    low, high = two_way_interval(won, are_shares=True) or (None, None)
    return Preference(wins, ties, losses, two_way_p_value(won, are_shares=True), low, high, *n_of_each(won))


def opinions(answers: Answers, question: str) -> list[OpinionRow]:
    """Summarise opinion scores, one row a scenario and one overall."""
    kept = [answer for answer in answers.kept if answer.question == question]
    methods = list(dict.fromkeys(answer.methods[0] for answer in kept))
    scenarios = list(dict.fromkeys(_scenario(answer) for answer in kept))
    groups = {name: [a for a in kept if _scenario(a) == name] for name in scenarios} if len(scenarios) > 1 else {}
    return [_opinion_row(name, group, methods) for name, group in [*groups.items(), ("overall", kept)]]


def _opinion_row(name: str, group: Sequence[Answer], methods: Sequence[str]) -> OpinionRow:
    by_method = {method: _values(a for a in group if a.methods[0] == method) for method in methods}
    scores = {method: opinion(given) for method, given in by_method.items() if given}
    trials = {((a.item, a.methods), a.rater): a.value for a in group}
    p = gap = None
    if len(scores) > 1:
        first, second = list(scores)[:2]
        both = by_method[first].keys() & by_method[second].keys()
        differences = {place: by_method[first][place] - by_method[second][place] for place in both}
        if differences:
            ends = two_way_interval(differences) or (None, None)
            gap = (sum(differences.values()) / len(differences), *ends)
            p = two_way_p_value(differences)
    return OpinionRow(name, scores, p, gap, krippendorff_alpha(trials, "interval"))


def _values(answers: Any) -> dict[tuple[str, str], float]:
    return {(answer.item, answer.rater): answer.value for answer in answers}


def _scenario(answer: Answer) -> str:
    return answer.item.split(SCENARIO_MARK)[0] if SCENARIO_MARK in answer.item else answer.item
