"""From answers, or from published shares, to the rows of a study's tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from idlora_pl.study.answers import Answer, Answers
from idlora_pl.study.opinion import Opinion, gap_p_value, opinion, two_way_interval
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
        p_worst: Largest p-value over the published range of answer counts; None for our own studies.
    """

    comparison: str
    question: str
    found: Preference
    alpha: float | None = None
    published: tuple[float, float, float] | None = None
    p_worst: float | None = None


@dataclass(frozen=True)
class OpinionRow:
    """Opinion scores of one scenario, one entry a method.

    Attributes:
        scenario: Name of the scenario; "overall" for all items.
        scores: By method.
        p: Two-sided p-value of the first two methods' difference; None where there is one method.
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
            p = sign_test(sum(x > 0 for x in by_item.values()), sum(x < 0 for x in by_item.values()))
    return OpinionRow(name, scores, p, gap, krippendorff_alpha(trials, "interval"))


def _values(answers: Any) -> dict[tuple[str, str], float]:
    return {(answer.item, answer.rater): answer.value for answer in answers}


def _scenario(answer: Answer) -> str:
    return answer.item.split(SCENARIO_MARK)[0] if SCENARIO_MARK in answer.item else answer.item


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def is_published_study(path: Path) -> bool:
    """Tell whether a file is a yaml of published study results, and not a table of scores."""
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return False
    return any(line.startswith("kind:") for line in path.read_text(errors="replace").splitlines())


def read_published(path: Path) -> dict[str, Any]:
    """Read a yaml of published results.

    The file holds `kind` (ab or mos), `title`, `source` and, for ab, `n` (answers a question, as [least, most]) and
    `shares` (percent of ours, tie, other by comparison and question); for mos `n` (answers by scenario, "each" for
    the rest) and `scores` (mean and half-width of the 95 % interval by scenario and method).

    Raises:
        ValueError: The file is not as described.
    """
    try:
        held = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path} is no yaml file of published results ({' '.join(str(error).split())})") from error
    needed = {"kind", "title", "source", "n"}
    if not isinstance(held, Mapping) or not needed <= held.keys() or held["kind"] not in ("ab", "mos"):
        raise ValueError(f"{path}: must hold {', '.join(sorted(needed))}, with kind ab or mos")
    name = {"ab": "shares", "mos": "scores"}[held["kind"]]
    if not isinstance(held.get(name), Mapping):
        raise ValueError(f"{path}: the key '{name}' is missing; see experiments/tables for an example")
    return dict(held)


def published_preferences(held: Mapping[str, Any], where: str) -> list[PreferenceRow]:
    """Return the rows of published shares, with tests at every published count of answers."""
    least, most = held["n"]
    return [
        _published_row(comparison, question, shares, (least, most), where)
        for comparison, by_question in held["shares"].items()
        for question, shares in by_question.items()
    ]


def published_opinions(held: Mapping[str, Any]) -> list[OpinionRow]:
    """Return the rows of published opinion scores."""
    return [_published_opinion(name, by_method, held["n"]) for name, by_method in held["scores"].items()]


def _published_row(
    comparison: str, question: str, shares: Sequence[float], n: tuple[int, int], where: str
) -> PreferenceRow:
    if len(shares) != 3 or not 97 <= sum(shares) <= 103:
        raise ValueError(f"{where}: {comparison}, {question}: shares must be three percentages; got {shares}")
    found = [preference(*_counts(shares, count)) for count in range(n[0], n[1] + 1)]
    worst = max((one.p for one in found if one.p is not None), default=None)
    middle = found[len(found) // 2]
    return PreferenceRow(comparison, question, middle, None, (shares[0], shares[1], shares[2]), worst)


def _counts(shares: Sequence[float], n: int) -> tuple[int, int, int]:
    """Turn percentages into counts of n answers; ties take up what rounding leaves."""
    wins, losses = round(shares[0] * n / 100), round(shares[2] * n / 100)
    return wins, max(0, n - wins - losses), losses


def _published_opinion(name: str, by_method: Mapping[str, Sequence[float]], n: int | Mapping[str, int]) -> OpinionRow:
    count = n if isinstance(n, int) else n.get(name, n["each"])
    scores = {
        method: Opinion(mean, half, mean - half, mean + half, count) for method, (mean, half) in by_method.items()
    }
    values = [(mean, half) for mean, half in by_method.values()]
    return OpinionRow(name, scores, gap_p_value(*values[:2]) if len(values) > 1 else None)
