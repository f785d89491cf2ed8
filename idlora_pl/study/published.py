"""Published results of studies: read from a yaml, and tested at every count of answers that they may stand for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import Any

from scipy import stats as scipy_stats

from idlora_pl.report.yaml_checks import as_count, as_list, as_mapping, as_named, as_number, as_text, load_yaml
from idlora_pl.study.answers import OpinionRow, Preference, PreferenceRow
from idlora_pl.study.statistics import Opinion, sign_test

_NUMBERS = {"ab": "shares", "mos": "scores"}
_NEEDED = {"kind", "title", "source", "n"}
_KNOWN = {*_NEEDED, "run", "methods", "command"}
_MOST_ANSWERS = 100_000
_MOST_COUNTS = 1000
"""Counts of answers that are tried; more would take minutes."""


def read_published(path: Path) -> dict[str, Any]:
    """Read a yaml of published results; `docs/studies.md` lists its keys.

    Raises:
        ValueError: The file is not as described; the message names the key and the value.
    """
    held = load_yaml(path, "a yaml of published results, as experiments/tables/human_ab.yaml")
    kind = held.get("kind") if isinstance(held, Mapping) else None
    if not isinstance(kind, str) or kind not in _NUMBERS:
        raise ValueError(f"{path}, kind must be ab or mos; got {kind!r}")
    name = _NUMBERS[kind]
    more = {"ab": {"claimed_p"}, "mos": set()}[kind]
    found = as_mapping(held, {*_KNOWN, name} | more, {*_NEEDED, name}, str(path))
    for key in ("title", "source", "run", "command"):
        if key in found:
            as_text(found[key], f"{path}, {key}")
    labels = _check_shares(found, path) if kind == "ab" else _check_scores(found, path)
    if "methods" in found:
        for method, label in as_named(found["methods"], f"{path}, methods", "{kling: Kling}").items():
            if as_text(label, f"{path}, methods.{method}") not in labels:
                raise ValueError(f"{path}, methods.{method} must be one of {', '.join(labels)}; got {label!r}")
    return found


def _check_shares(held: Mapping[str, Any], path: Path) -> list[str]:
    """Check the numbers of a kind; return the names of the comparisons."""
    if isinstance(held["n"], int):
        raise ValueError(f"{path}, n must be the least and the most answers a question, [5, 5]; got {held['n']!r}")
    least, most = (
        as_count(one, f"{path}, n", 1, _MOST_ANSWERS) for one in as_list(held["n"], f"{path}, n", "[285, 290]", 2)
    )
    if not least <= most < least + _MOST_COUNTS:
        raise ValueError(f"{path}, n must be the least and the most answers a question, not far apart; got {held['n']}")
    if "claimed_p" in held and not 0 < as_number(held["claimed_p"], f"{path}, claimed_p") < 1:
        raise ValueError(f"{path}, claimed_p must lie between 0 and 1; got {held['claimed_p']}")
    example = "{vs them: {voice: [73, 7, 20]}}"
    for comparison, questions in as_named(held["shares"], f"{path}, shares", example).items():
        where = f"{path}, shares.{comparison}"
        for question, shares in as_named(questions, where, "{voice: [73, 7, 20]}").items():
            values = as_list(shares, f"{where}.{question}", "[73, 7, 20] (ours, tie, other)", 3)
            numbers = [as_number(value, f"{where}.{question}") for value in values]
            if min(numbers) < 0 or not 97 <= sum(numbers) <= 103:
                raise ValueError(f"{where}.{question} must be three percentages of together 100; got {shares}")
    return list(held["shares"])


def _check_scores(held: Mapping[str, Any], path: Path) -> list[str]:
    """Check the numbers of a kind; return the names of the methods."""
    scores = as_named(held["scores"], f"{path}, scores", "{guitar: {ours: [3.04, 0.37]}}")
    labels: dict[str, None] = {}
    for scenario, by_method in scores.items():
        where = f"{path}, scores.{scenario}"
        for method, pair in as_named(by_method, where, "{ours: [3.04, 0.37]}").items():
            values = as_list(pair, f"{where}.{method}", "[3.04, 0.37] (mean and half of the 95 % interval)", 2)
            mean, half = (as_number(value, f"{where}.{method}") for value in values)
            if not 1 <= mean <= 5 or half <= 0:
                raise ValueError(f"{where}.{method}: the mean must be from 1 to 5 and the half-width > 0; got {pair}")
            labels[method] = None
    if isinstance(held["n"], int):
        as_count(held["n"], f"{path}, n", 1, _MOST_ANSWERS)
        return list(labels)
    counts = as_named(held["n"], f"{path}, n", "45 or {each: 45, overall: 450}")
    for name, count in counts.items():
        as_count(count, f"{path}, n.{name}", 1, _MOST_ANSWERS)
    if "each" not in counts and (lacking := [name for name in scores if name not in counts]):
        raise ValueError(f"{path}, n says nothing about '{lacking[0]}'; add it, or each: the count of all others")
    return list(labels)


def published_preferences(held: Mapping[str, Any]) -> list[PreferenceRow]:
    """Return the rows of published shares, tested at every count of answers that rounds to them."""
    least, most = held["n"]
    return [
        _published_row(comparison, question, shares, (least, most))
        for comparison, by_question in held["shares"].items()
        for question, shares in by_question.items()
    ]


def published_opinions(held: Mapping[str, Any]) -> list[OpinionRow]:
    """Return the rows of published opinion scores."""
    return [_published_opinion(name, by_method, held["n"]) for name, by_method in held["scores"].items()]


def _published_row(comparison: str, question: str, shares: Sequence[float], n: tuple[int, int]) -> PreferenceRow:
    middle = (n[0] + n[1] + 1) // 2
    wins, _, losses = _counts(shares, middle)
    decided = {pair for count in range(n[0], n[1] + 1) for pair in possible_counts(shares, count)} or {(wins, losses)}
    found = [p for wins, losses in decided if (p := sign_test(wins, losses)) is not None]
    published = (shares[0], shares[1], shares[2])
    ends = (min(found), max(found)) if found else (None, None)
    return PreferenceRow(comparison, question, Preference(*_counts(shares, middle)), None, published, *ends)


def possible_counts(shares: Sequence[float], n: int) -> list[tuple[int, int]]:
    """Return all wins and losses of n answers that round to some percentages of ours, tie and other.

    Example:
        >>> possible_counts([73, 7, 20], 15), possible_counts([50, 0, 50], 9)
        ([(11, 3)], [])
    """
    ties = list(_rounding_to(shares[1], n))
    pairs = [(w, lost) for w in _rounding_to(shares[0], n) for lost in _rounding_to(shares[2], n)]
    return [pair for pair in pairs if n - sum(pair) in ties]


def _rounding_to(share: float, n: int) -> Iterator[int]:
    """Give the counts of n that a percentage may stand for, from its digits after the point."""
    text = repr(share)
    digits = len(text.partition(".")[2]) if not float(share).is_integer() else 0
    half = 0.5 * 10.0**-digits + 1e-9
    yield from range(max(0, ceil((share - half) * n / 100)), min(n, floor((share + half) * n / 100)) + 1)


def _counts(shares: Sequence[float], n: int) -> tuple[int, int, int]:
    """Turn percentages into counts of n answers; ties take up what rounding leaves."""
    wins, losses = round(shares[0] * n / 100), round(shares[2] * n / 100)
    return wins, max(0, n - wins - losses), losses


def _published_opinion(name: str, by_method: Mapping[str, Sequence[float]], n: int | Mapping[str, int]) -> OpinionRow:
    count = n if isinstance(n, int) else n.get(name, n.get("each", 0))
    scores = {
        method: Opinion(mean, None, None, count, published_half_width=half)
        for method, (mean, half) in by_method.items()
    }
    return OpinionRow(name, scores)


@dataclass(frozen=True)
class AcrossScenarios:
    """Tests of the difference of two methods, one published mean a scenario; scenarios are what is drawn anew.

    Attributes:
        methods: The two methods.
        n: Scenarios that have both.
        n_ahead: Scenarios in which the first is ahead.
        n_behind: Scenarios in which the second is.
        difference: Mean of first minus second.
        p_t: Two-sided p-value of a paired t-test; None with one scenario, or where all differences are equal.
        p_sign: Two-sided p-value of a sign test, scenarios without a difference left out; None where all are.
    """

    methods: tuple[str, str]
    n: int
    n_ahead: int
    n_behind: int
    difference: float
    p_t: float | None
    p_sign: float | None


def across_scenarios(rows: Sequence[OpinionRow]) -> AcrossScenarios | None:
    """Compare the first two methods over their scenarios; None where fewer than two methods were published."""
    single = [row.scores for row in rows if row.scenario != "overall"]
    methods = list(dict.fromkeys(method for scores in single for method in scores))[:2]
    pairs = [tuple(scores[method].mean for method in methods) for scores in single if {*methods} <= scores.keys()]
    if len(methods) < 2 or not pairs:
        return None
    gaps = [first - second for first, second in pairs]
    ahead, behind = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    varies = len(gaps) > 1 and max(gaps) - min(gaps) > 1e-9
    p_t = float(scipy_stats.ttest_1samp(gaps, 0).pvalue) if varies else None
    mean = sum(gaps) / len(gaps)
    return AcrossScenarios((methods[0], methods[1]), len(gaps), ahead, behind, mean, p_t, sign_test(ahead, behind))
