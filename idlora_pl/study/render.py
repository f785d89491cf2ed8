"""A study's results as text and as data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from idlora_pl.report.formats import csv_text
from idlora_pl.report.sheet import Sheet
from idlora_pl.study.answers import OpinionRow, PreferenceRow
from idlora_pl.study.published import AcrossScenarios

DASH = "–"
_OWN_SHARES = ("ours of decided [95 %]", "items / raters", "p")


def percent(share: float) -> str:
    """Format a share as a percentage."""
    return f"{100 * share:.1f}"


def p_text(p: float | None) -> str:
    """Format a p-value; small ones by their order of magnitude.

    Example:
        >>> p_text(0.0084), p_text(3e-12), p_text(None)
        ('0.008', '3e-12', '–')
    """
    if p is None:
        return DASH
    return f"{p:.0e}" if p < 0.001 else f"{p:.3f}"


def p_range(low: float | None, high: float | None) -> str:
    """Format the p-values between two ends."""
    ends = list(dict.fromkeys((p_text(low), p_text(high))))
    return " to ".join(ends)


def p_number(p: float | None) -> str:
    """Format a p-value with two digits."""
    return DASH if p is None else f"{p:.2f}" if p >= 0.01 else p_text(p)


def preference_sheet(rows: Sequence[PreferenceRow], title: str) -> Sheet:
    """Return the table of an A/B study."""
    published = any(row.published for row in rows)
    heads = ["comparison", "question", "ours", "tie", "other", "n"]
    heads += ["ours of decided", "p, answers as independent"] if published else [*_OWN_SHARES, "alpha"]
    lines = []
    for row in rows:
        found = row.found
        shares = [f"{x:g}" for x in row.published] if row.published else [percent(x) for x in found.shares]
        decided = found.wins + found.losses
        inside = "" if found.low is None or found.high is None else f" [{percent(found.low)}, {percent(found.high)}]"
        text = f"{percent(found.wins / decided)}{inside}" if decided else DASH
        own = [f"{found.n_items} / {found.n_raters}", p_text(found.p), _decimal(row.alpha)]
        last = [p_range(row.p_least, row.p_worst)] if published else own
        lines.append((row.comparison, row.question, *shares, str(found.n), text, *last))
    return Sheet(tuple(heads), tuple(lines), title)


def preference_csv(rows: Sequence[PreferenceRow]) -> str:
    """Return an A/B study as CSV; published shares are percentages of ours, tie and other."""
    heads = ["comparison", "question", "published_ours", "published_tie", "published_other", "n", "wins", "ties"]
    heads += [
        "losses",
        "share_of_decided",
        "ci_low",
        "ci_high",
        "n_items",
        "n_raters",
        "p",
        "p_least",
        "p_worst",
        "alpha",
    ]
    lines = []
    for row in rows:
        it, decided = row.found, row.found.wins + row.found.losses
        counts = [it.n, it.wins, it.ties, it.losses, it.wins / decided if decided else None, it.low, it.high]
        counts += [it.n_items or None, it.n_raters or None]
        tests = [it.p, row.p_least, row.p_worst, row.alpha]
        lines.append([row.comparison, row.question, *(row.published or (None,) * 3), *counts, *tests])
    return csv_text(heads, lines)


def opinion_sheet(rows: Sequence[OpinionRow], title: str) -> Sheet:
    """Return the table of opinion scores."""
    methods = list(dict.fromkeys(method for row in rows for method in row.scores))
    published = any(score.published_half_width is not None for row in rows for score in row.scores.values())
    lines = []
    for row in rows:
        means = [_mean(row, method) for method in methods]
        counts = _of_each(score.n for score in row.scores.values())
        own = [] if published else [_both(row), p_text(row.p), _decimal(row.alpha)]
        lines.append((row.scenario, *means, counts, _gap(row, methods), *own))
    last = ["difference"] if published else ["difference [95 %]", "items / raters", "p", "alpha"]
    heads = ("scenario", *(f"{method} {'±' if published else '[95 %]'}" for method in methods), "n", *last)
    return Sheet(heads, tuple(lines), title, n_left=1)


def _of_each(counts: Iterable[int]) -> str:
    return "/".join(map(str, sorted(set(counts))))


def _both(row: OpinionRow) -> str:
    scores = row.scores.values()
    return f"{_of_each(one.n_items for one in scores)} / {_of_each(one.n_raters for one in scores)}"


def opinion_csv(rows: Mapping[str, Sequence[OpinionRow]]) -> str:
    """Return opinion scores by question as CSV, one line a scenario and method; p is of the first two methods."""
    heads = ["question", "scenario", "method", "mean", "ci_low", "ci_high", "published_half_width", "n", "n_items"]
    lines = [
        [question, row.scenario, method, one.mean, one.low, one.high, one.published_half_width, one.n]
        + [one.n_items or None, one.n_raters or None, *(row.gap or (None,) * 3), row.p, row.alpha]
        for question, found in rows.items()
        for row in found
        for method, one in row.scores.items()
    ]
    return csv_text([*heads, "n_raters", "gap", "gap_ci_low", "gap_ci_high", "p", "alpha"], lines)


def _mean(row: OpinionRow, method: str) -> str:
    if method not in row.scores:
        return DASH
    score = row.scores[method]
    if score.published_half_width is not None:
        return f"{score.mean:.2f} ± {score.published_half_width:.2f}"
    return f"{score.mean:.2f}" + (
        "" if score.low is None or score.high is None else f" [{score.low:.2f}, {score.high:.2f}]"
    )


def _gap(row: OpinionRow, methods: Sequence[str]) -> str:
    if row.gap is not None:
        mean, low, high = row.gap
        return f"{mean:+.2f}" + ("" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]")
    found = [row.scores[method].mean for method in methods[:2] if method in row.scores]
    return f"{found[0] - found[1]:+.2f}" if len(found) == 2 else DASH


def _decimal(value: float | None) -> str:
    return DASH if value is None else f"{value:.2f}"


def preference_notes(held: Mapping[str, Any], rows: Sequence[PreferenceRow]) -> list[str]:
    """Return what follows from published shares, in sentences."""
    said = [f"Quoted from {held['source']}."]
    claimed = held.get("claimed_p")
    for row in rows:
        if claimed is not None and row.p_worst is not None and row.p_worst >= claimed:
            said.append(
                f"{row.comparison}, {row.question}: p < {claimed} is claimed; even a two-sided sign test that takes "
                f"all answers for independent gives {p_range(row.p_least, row.p_worst)}, over the counts that round to "
                "these shares."
            )
    said.append(
        "p from a two-sided sign test that takes all answers for independent, ties left out. Answers to one item, and "
        "of one rater, are not: there is no interval and no p over items and raters, because the raw answers were not "
        "published."
    )
    return said


def opinion_notes(held: Mapping[str, Any], found: AcrossScenarios | None) -> list[str]:
    """Return what follows from published opinion scores, in sentences."""
    said = [f"Quoted from {held['source']}."]
    if found is not None:
        first, second = found.methods
        said.append(
            f"{first} ahead of {second} in {found.n_ahead} of {found.n} scenarios, by {found.difference:+.2f} on "
            f"average: paired t-test over scenarios p = {p_number(found.p_t)}, sign test p = {p_number(found.p_sign)}."
        )
    said.append(
        "± as published, over answers. The answers of one rater and to one item are not independent, so no test "
        "follows from these; the raw answers were not published."
    )
    return said


def to_data(rows: Sequence[PreferenceRow] | Sequence[OpinionRow]) -> list[dict[str, Any]]:
    """Return the rows for a JSON file."""
    return [asdict(row) for row in rows]
