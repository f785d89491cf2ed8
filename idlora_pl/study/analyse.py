"""From answers to the rows of a study's tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from idlora_pl.study.answers import Answer, Answers
from idlora_pl.study.opinion import Opinion, opinion, two_way_interval
from idlora_pl.study.statistics import Preference, krippendorff_alpha, majority_differences, preference, sign_test

SCENARIO_MARK = "__"
"""An item "guitar__4158" belongs to the scenario "guitar"."""


@dataclass(frozen=True)
class PreferenceRow:
    """One question of one comparison.

    Attributes:
        comparison: "a vs b".
        question: Name of the question.
        found: Counts and tests.
        alpha: Krippendorff's alpha of the raters (nominal); None where it cannot be computed.
        published: Shares in percent as they were published; None for our own studies.
        p_least: Smallest p-value over all counts of answers that round to the published shares; None for our own.
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
        p: Two-sided p-value of the first two methods' difference; None where there is one method or one item.
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
            wins, ties, losses = (sum(value == side for value in given.values()) for side in (1, 0, -1))
            found = preference(wins, ties, losses, list(majority_differences(given).values()))
            rows.append(PreferenceRow(" vs ".join(pair), question, found, krippendorff_alpha(given, "nominal")))
    return rows


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
            gap = (sum(differences.values()) / len(differences), *two_way_interval(differences))
            by_item = majority_differences({place: _sign(value) for place, value in differences.items()})
            if len(by_item) > 1:  # with one item, the test gives 1 whatever was answered
                p = sign_test(sum(x > 0 for x in by_item.values()), sum(x < 0 for x in by_item.values()))
    return OpinionRow(name, scores, p, gap, krippendorff_alpha(trials, "interval"))


def _values(answers: Any) -> dict[tuple[str, str], float]:
    return {(answer.item, answer.rater): answer.value for answer in answers}


def _scenario(answer: Answer) -> str:
    return answer.item.split(SCENARIO_MARK)[0] if SCENARIO_MARK in answer.item else answer.item


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
