"""What `data_tools.find_speakers` reports: speakers.json and the table on the screen."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from data_tools.speakers.embedders import Embedder
from data_tools.speakers.quality import Agreement
from data_tools.verb.lists import Row


@dataclass(frozen=True, eq=False)
class Found:
    """Clips with their speakers.

    Attributes:
        rows: of the clips.
        groups: number of the speaker of each.
        names: of the speakers.
        margins: how sure each clip is, in units of the threshold.
        nearest: number of the nearest other speaker, -1 without one.
        disagree: what voice and face say against it.
    """

    rows: list[Row]
    groups: list[int]
    names: list[str]
    margins: list[float | None]
    nearest: list[int]
    disagree: list[Row]


def speakers_file(found: Found, labels: Sequence[str], embedders: Sequence[Embedder], truth: Agreement | None) -> Row:
    """Return speakers.json: every speaker with its clips and how sure it is, and what was used to find it."""
    speakers: dict[str, Row] = {}
    for number, name in enumerate(found.names):
        members = [index for index, one in enumerate(found.groups) if one == number]
        margins = [margin for index in members if (margin := found.margins[index]) is not None]
        others = Counter(found.names[found.nearest[index]] for index in members if found.nearest[index] >= 0)
        speakers[name] = {
            "labelled": any(labels[index] for index in members),
            "margin": round(float(np.mean(margins)), 4) if margins else None,
            "least_margin": min(margins, default=None),
            "nearest": others.most_common(1)[0][0] if others else None,
            "clips": [found.rows[index]["key"] for index in members],
        }
    used = [
        {"view": one.view, "scorer": one.name, "weights": one.digest, "threshold": one.threshold}
        | {"chosen_on": one.chosen_on}
        for one in embedders
    ]
    return {"embedders": used, "truth": truth.row() if truth else None, "speakers": speakers}


def summary(found: Found, rejected: Sequence[Row], embedders: Sequence[Embedder], n_labelled: int) -> Table:
    """Return the numbers of a run as a table."""
    sizes = Counter(found.groups).values()
    table = Table(show_header=False)
    table.add_row("networks", ", ".join(f"{one.name} (threshold {one.threshold:g})" for one in embedders))
    table.add_row("clips", str(len(found.rows)))
    table.add_row("with a label", str(n_labelled))
    table.add_row("speakers", f"{len(found.names)}, of {min(sizes)} to {max(sizes)} clips")
    table.add_row("clips with a margin below 0.1", str(sum(m is not None and m < 0.1 for m in found.margins)))
    for kind, count in sorted(Counter(f"{row['by']}: {row['kind']}" for row in found.disagree).items()):
        table.add_row(f"disagreements, {kind}", str(count))
    for reason, count in sorted(Counter(row["reason"] for row in rejected).items()):
        table.add_row(f"rejected, {reason}", str(count))
    return table
