"""A study's results as text and as data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table as RichTable

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


def preference_table(rows: Sequence[PreferenceRow], title: str) -> RichTable:
    """Return the table of an A/B study."""
    published = any(row.published for row in rows)
    table = RichTable(title=title)
    heads = ["comparison", "question", "ours", "tie", "other", "n", "ours of decided [95 %]", "p (answers)"]
    for head in [*heads, "p (worst n)" if published else "p (items)", *([] if published else ["alpha"])]:
        table.add_column(head, justify="left" if head in ("comparison", "question") else "right")
    for row in rows:
        found = row.found
        shares = [f"{x:g}" for x in row.published] if row.published else [percent(x) for x in found.shares]
        decided = found.wins + found.losses
        inside = f"{percent(found.low or 0)}, {percent(found.high or 0)}"
        text = f"{percent(found.wins / decided)} [{inside}]" if decided else DASH
        last = [p_text(row.p_worst)] if published else [p_text(found.p_items), _decimal(row.alpha)]
        table.add_row(row.comparison, row.question, *shares, str(found.n), text, p_text(found.p), *last)
    return table


def opinion_table(rows: Sequence[OpinionRow], title: str) -> RichTable:
    """Return the table of opinion scores."""
    methods = list(dict.fromkeys(method for row in rows for method in row.scores))
    table = RichTable(title=title)
    table.add_column("scenario")
    for head in [*methods, "n", "difference [95 %]", "p", "alpha"]:
        table.add_column(head, justify="right")
    for row in rows:
        means = [_mean(row, method) for method in methods]
        counts = {str(score.n) for score in row.scores.values()}
        table.add_row(
            row.scenario, *means, "/".join(sorted(counts)), _gap(row, methods), p_text(row.p), _decimal(row.alpha)
        )
    return table


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
                f"gives {p_text(row.p_worst)}."
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
