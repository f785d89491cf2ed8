"""The table of a ``scores.jsonl`` alone, without a yaml that declares it."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from idlora_pl.report.build import build_table
from idlora_pl.report.table import COLUMNS, Column, Table
from idlora_pl.results.scores_file import ScoreRow, located, metric_names, read_scores, row_names


def table_from_scores(
    path: Path | str, known: Mapping[str, Column] = COLUMNS, paired: Sequence[tuple[str, str]] = ()
) -> tuple[Table, list[ScoreRow]]:
    """Make a table of all rows and all known scores of a ``scores.jsonl``, those of ``COLUMNS`` first.

    A score that no clip has is no column; a sentence under the table says so. Without `paired`, each row is compared
    with the one before it. A ``table.json`` beside the file gives the seconds.
    """
    path = Path(path)
    scores = read_scores(path)
    names = row_names(scores)
    held = metric_names(scores)
    known = {**COLUMNS, **known}
    empty = {name for name in held if all(score.scores.get(name) is None for score in scores)}
    columns = [known[name] for name in sorted(held, key=lambda name: name not in COLUMNS) if name in known]
    if len(empty & set(held)) < len(held):
        columns = [column for column in columns if column.metric not in empty]
    if not columns:
        raise ValueError(
            f"{path} holds {', '.join(held) or 'none'}, none of {', '.join(known)}; name the columns in a table yaml"
        )
    beside = path.with_name("table.json")
    seconds = json.loads(beside.read_text())["seconds"] if beside.is_file() else {}
    pairs = list(paired) or [(after, before) for before, after in pairwise(names)]
    table = build_table(scores, names, columns, pairs, seconds=seconds, caption=str(path))
    said = [_no_value(known[name], scores) for name in held if name in empty and name in known]
    unknown = [
        f"{name}: not in the table, because no scorer is known that gives it" for name in held if name not in known
    ]
    return replace(table, findings=(*table.findings, *said, *unknown)), located(scores, path.parent)


def _no_value(column: Column, scores: Sequence[ScoreRow]) -> str:
    """Say why a score has no column."""
    reasons = Counter(score.reasons[column.metric] for score in scores if column.metric in score.reasons)
    counted = ", ".join(f"{reason} {n}" for reason, n in reasons.most_common())
    return f"{column.title} ({column.metric}): no clip has a value ({counted})"
