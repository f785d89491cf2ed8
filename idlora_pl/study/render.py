"""A study's results as text and as data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from idlora_pl.report.export import csv_text
from idlora_pl.report.sheet import Sheet
from idlora_pl.study.analyse import OpinionRow, PreferenceRow

DASH = "–"


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


def preference_sheet(rows: Sequence[PreferenceRow], title: str) -> Sheet:
    """Return the table of an A/B study."""
    published = any(row.published for row in rows)
    heads = ["comparison", "question", "ours", "tie", "other", "n", "ours of decided [95 %]"]
    heads += ["p (over rounding)"] if published else ["p (answers)", "p (items)", "alpha"]
    lines = []
    for row in rows:
        found = row.found
        shares = [f"{x:g}" for x in row.published] if row.published else [percent(x) for x in found.shares]
        decided = found.wins + found.losses
        inside = f"{percent(found.low or 0)}, {percent(found.high or 0)}"
        text = f"{percent(found.wins / decided)} [{inside}]" if decided else DASH
        own = [p_text(found.p), p_text(found.p_items), _decimal(row.alpha)]
        last = [p_range(row.p_least, row.p_worst)] if published else own
        lines.append((row.comparison, row.question, *shares, str(found.n), text, *last))
    return Sheet(tuple(heads), tuple(lines), title)


def preference_csv(rows: Sequence[PreferenceRow]) -> str:
    """Return an A/B study as CSV; published shares are percentages of ours, tie and other."""
    heads = ["comparison", "question", "published_ours", "published_tie", "published_other", "n", "wins", "ties"]
    heads += ["losses", "share_of_decided", "ci_low", "ci_high", "p", "p_items", "p_least", "p_worst", "alpha"]
    lines = []
    for row in rows:
        it, decided = row.found, row.found.wins + row.found.losses
        counts = [it.n, it.wins, it.ties, it.losses, it.wins / decided if decided else None, it.low, it.high]
        tests = [it.p, it.p_items, row.p_least, row.p_worst, row.alpha]
        lines.append([row.comparison, row.question, *(row.published or (None,) * 3), *counts, *tests])
    return csv_text(heads, lines)


def opinion_sheet(rows: Sequence[OpinionRow], title: str) -> Sheet:
    """Return the table of opinion scores."""
    methods = list(dict.fromkeys(method for row in rows for method in row.scores))
    lines = []
    for row in rows:
        means = [_mean(row, method) for method in methods]
        counts = "/".join(map(str, sorted({score.n for score in row.scores.values()})))
        lines.append((row.scenario, *means, counts, _gap(row, methods), p_text(row.p), _decimal(row.alpha)))
    heads = ("scenario", *methods, "n", "difference [95 %]", "p", "alpha")
    return Sheet(heads, tuple(lines), title, n_left=1)


def opinion_csv(rows: Mapping[str, Sequence[OpinionRow]]) -> str:
    """Return opinion scores by question as CSV, one line a scenario and method; p is of the first two methods."""
    heads = ["question", "scenario", "method", "mean", "half_width", "ci_low", "ci_high", "n", "p", "alpha"]
    lines = [
        [question, row.scenario, method, one.mean, one.half_width, one.low, one.high, one.n, row.p, row.alpha]
        for question, found in rows.items()
        for row in found
        for method, one in row.scores.items()
    ]
    return csv_text(heads, lines)


def _mean(row: OpinionRow, method: str) -> str:
    if method not in row.scores:
        return DASH
    score = row.scores[method]
    return f"{score.mean:.2f}" + ("" if score.half_width is None else f" ± {score.half_width:.2f}")


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
                f"{row.comparison}, {row.question}: p < {claimed} is claimed; a two-sided sign test over answers "
                f"gives {p_range(row.p_least, row.p_worst)}, over the counts that round to these shares."
            )
    said.append(
        "p from a two-sided sign test over answers, ties left out. Answers of several raters to one item are not "
        "independent, so the true p-values are larger; the raw answers were not published."
    )
    return said


def opinion_notes(held: Mapping[str, Any], rows: Sequence[OpinionRow]) -> list[str]:
    """Return what follows from published opinion scores, in sentences."""
    pairs = [[score.mean for score in row.scores.values()][:2] for row in rows if row.scenario != "overall"]
    wins = sum(len(pair) == 2 and pair[0] > pair[1] for pair in pairs)
    return [
        f"Quoted from {held['source']}.",
        f"First method ahead in {wins} of {len(pairs)} scenarios.",
        "p from a z-test of two independent means with the published half-widths.",
    ]


def to_data(rows: Sequence[PreferenceRow] | Sequence[OpinionRow]) -> list[dict[str, Any]]:
    """Return the rows for a JSON file."""
    return [asdict(row) for row in rows]
