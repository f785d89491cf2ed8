"""The answers of raters, read back with the key of the study, and the rows of its tables made of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idlora_pl.study.design import VALUES, read_json
from idlora_pl.study.statistics import (
    Opinion,
    Ratings,
    krippendorff_alpha,
    n_of_each,
    opinion,
    two_way_interval,
    two_way_p_value,
)


@dataclass(frozen=True)
class Answer:
    """One answer with the methods named.

    Attributes:
        rater: Code of the rater.
        item: Item of the trial.
        methods: The two methods that were compared, first method first, or the one that was rated.
        question: Name of the question.
        value: +1 for the first method, 0 for a tie, -1 for the second; or the opinion score, 1 to 5.
    """

    rater: str
    item: str
    methods: tuple[str, ...]
    question: str
    value: float


@dataclass(frozen=True)
class Answers:
    """What a study brought.

    Attributes:
        kept: Answers that count.
        inattentive: Raters left out, with the number of attention trials that they failed.
        n_missing: Answers that the kept raters of the study did not give.
    """

    kept: tuple[Answer, ...]
    inattentive: dict[str, int]
    n_missing: int


def read_answers(key: Mapping[str, Any], folder: Path, *, failures_allowed: int = 0) -> Answers:
    """Read the answer files of a study.

    Args:
        key: Of `read_key`.
        folder: Holds one JSON file a rater, as the page saves it.
        failures_allowed: A rater who fails more attention trials is left out.

    Raises:
        ValueError: There is no file, a file belongs to another study, or holds an answer that cannot be.
    """
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not paths:
        raise ValueError(f"{folder} holds no answer files; give --answers the folder of the raters' json files")
    by_rater: dict[str, list[dict[str, Any]]] = {}
    for path in paths:
        found = _read(path, key)
        if found["rater"] in by_rater:
            raise ValueError(f"{path}: rater {found['rater']} has two files; keep one")
        by_rater[found["rater"]] = found["answers"]
    failed = {rater: n_failed(key, given) for rater, given in by_rater.items()}
    inattentive = {rater: n for rater, n in failed.items() if n > failures_allowed}
    attentive = {rater: given for rater, given in by_rater.items() if rater not in inattentive}
    kept = [_decode(key, rater, one) for rater, given in attentive.items() for one in given if _counts(key, one)]
    expected = len(attentive) * len(key["trials"]) * len(key["questions"])
    return Answers(tuple(kept), inattentive, expected - len(kept))


def _read(path: Path, key: Mapping[str, Any]) -> dict[str, Any]:
    found = read_json(path, "ask the rater to save it again")
    if not isinstance(found, dict) or not {"study", "rater", "answers"} <= found.keys():
        raise ValueError(f"{path}: no answer file; it must hold study, rater and answers")
    if found["study"] != key["study"]:
        raise ValueError(f"{path}: answers of study {found['study']!s:.40}, the key is of {key['study']}; move it away")
    if not isinstance(found["rater"], str) or found["rater"] not in key["sides"]:
        raise ValueError(f"{path}: rater {found['rater']!r:.40} is none of {', '.join(key['sides'])}; correct the code")
    if not isinstance(found["answers"], list):
        raise ValueError(f"{path}: answers must be a list of objects with trial, question and answer; save it again")
    seen = set()
    for one in found["answers"]:
        _check(path, key, one)
        place = (one["trial"], one["question"])
        if place in seen:
            raise ValueError(f"{path}: trial {one['trial']} answers {one['question']} twice; keep one")
        seen.add(place)
    return found


def _check(path: Path, key: Mapping[str, Any], one: object) -> None:
    if not isinstance(one, dict) or not all(isinstance(one.get(k), str) for k in ("trial", "question", "answer")):
        raise ValueError(f"{path}: an answer must have trial, question and answer as text; got {one!r:.80}")
    known = one["trial"] in key["trials"] or one["trial"] in key["attention"]
    if not known or one["question"] not in key["questions"]:
        raise ValueError(f"{path}: no trial {one['trial']!r} with question {one['question']!r} in this study")
    if one["answer"] not in VALUES[key["kind"]]:
        choices = ", ".join(VALUES[key["kind"]])
        raise ValueError(f"{path}: trial {one['trial']} has the answer {one['answer']!r}; it must be one of {choices}")


def _counts(key: Mapping[str, Any], one: Mapping[str, Any]) -> bool:
    return one["trial"] in key["trials"]


def n_failed(key: Mapping[str, Any], given: list[dict[str, Any]]) -> int:
    """Count the attention screens of a rater on which not every question has the answer that was asked for.

    A screen that was left out is failed too; each rater of a study has the same number of them.
    """
    asked = key["attention"]
    right = Counter(one["trial"] for one in given if asked.get(one["trial"]) == one["answer"])
    passed = sum(count == len(key["questions"]) for count in right.values())
    return max(0, len(asked) // len(key["sides"]) - passed)


def _decode(key: Mapping[str, Any], rater: str, one: Mapping[str, Any]) -> Answer:
    trial = key["trials"][one["trial"]]
    methods = tuple(trial["methods"])
    if key["kind"] == "mos":
        return Answer(rater, trial["item"], methods, one["question"], float(one["answer"]))
    left, right = key["sides"][rater][one["trial"]]
    chosen = {"left": left, "right": right, "tie": None}[one["answer"]]
    value = 0.0 if chosen is None else (1.0 if chosen == methods[0] else -1.0)
    return Answer(rater, trial["item"], methods, one["question"], value)


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
