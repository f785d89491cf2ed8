"""What an import says at its end."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from data_tools.released.metadata import Metadata
from data_tools.released.passes import Scanned
from data_tools.released.plan import Plan
from data_tools.released.rules import Rules
from data_tools.released.selection import PRECISIONS
from data_tools.verb.lists import Row

_SHOWN = 3


def written(plan: Plan, scanned: Scanned, rules: Rules, metadata: Metadata) -> Table:
    """Count what was written, and in which ways it was changed."""
    table = Table("imported", "items", title=f"{plan.n_items} of {scanned.n_items} items written")
    for part in plan.sets:
        lengths = f"{part.target_tokens} target and {part.reference_tokens} reference tokens"
        table.add_row(f"{part.name or 'in one set'}: {lengths}", str(len(part.items)))
        for name, changes in part.changes().items():
            for tokens, count in changes.items():
                verb = "cut by" if int(tokens) > 0 else "padded by"
                table.add_row(f"  {name} {verb} {abs(int(tokens))} tokens", str(count))
    written = [item.facts for part in plan.sets for item in part.items]
    assumed = [facts for facts in written if facts.fps is None]
    rate_fps = plan.base.geometry.video.frame_rate_fps if plan.base else 0.0
    for what, count in (
        ("stored as flat tokens (old caches), put back on their grid", sum(facts.unpatchified for facts in written)),
        ("converted to another precision", sum(facts.precisions != PRECISIONS for facts in written)),
        (f"without a frame rate, taken as {rules.missing_fps}", len(assumed)),
        (f"of nearly {rate_fps:g} fps, taken as that", sum(facts.fps not in (None, rate_fps) for facts in written)),
        *sorted(metadata.counts.items()),
    ):
        if count:
            table.add_row(what, str(count))
    return table


def reasons(rejected: Sequence[Row]) -> Table:
    """Count rows of the report by reason, with one sentence each."""
    table = Table("refused because", "count", "for example", title=f"{len(rejected)} refused")
    for reason, count in sorted(Counter(row["reason"] for row in rejected).items()):
        example = next(row["detail"] for row in rejected if row["reason"] == reason)
        table.add_row(reason, str(count), example)
    return table


def say_ignored(console: Console, scanned: Scanned) -> None:
    """Name what was no part of the layout, and how much of the archives waited on disk."""
    if scanned.ignored:
        more = ", ..." if len(scanned.ignored) > _SHOWN else ""
        console.print(f"no part of the layout: {len(scanned.ignored)} ({', '.join(scanned.ignored[:_SHOWN])}{more})")
    if scanned.peak_bytes:
        console.print(f"at most {scanned.peak_bytes / 1e6:.1f} MB of the archives waited on disk to be joined")
