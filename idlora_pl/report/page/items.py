"""What the page shows of each test item, as data: clips with scores, reasons, doubts and curves."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from idlora_pl.benchmark.prompt import split_prompt
from idlora_pl.report.page.shown import Shown
from idlora_pl.report.table import COLUMNS, Column, Table
from idlora_pl.results.row import Curve, ScoreRow
from idlora_pl.results.scores_file import metric_names

Data = dict[str, Any]


def page_data(
    table: Table, scores: Sequence[ScoreRow], shown: Mapping[str, Shown], known: Mapping[str, Column] = COLUMNS
) -> Data:
    """Return what the page's script builds the clips from; plain data for JSON.

    Args:
        table: Its rows and columns come first.
        scores: Those of rows that the table does not have are left out.
        shown: How each path in the notes of the scores is played.
        known: Titles and directions of scores that are no columns of the table.
    """
    order = {row.label: place for place, row in enumerate(row for row in table.rows if row.quoted is None)}
    mine = [score for score in scores if score.row in order]
    columns = page_columns(table, mine, known)
    files = list(dict.fromkeys(shown[path] for path in _played(mine) if path in shown))
    numbers = {found: place for place, found in enumerate(files)}
    places = {path: numbers[found] for path, found in shown.items() if found in numbers}
    by_key: dict[str, list[ScoreRow]] = {}
    for score in mine:
        by_key.setdefault(score.key, []).append(score)
    doubts: list[Data] = []
    items = []
    for key, group in by_key.items():
        group.sort(key=lambda score: (order[score.row], -1 if score.seed is None else score.seed))
        clips = [_clip(score, columns, order, places, files, doubts) for score in group]
        items.append({"key": key, "speaker": group[0].speaker, "clips": clips, **_about(group, clips, places)})
    return {
        "columns": columns,
        "rows": list(order),
        "files": [asdict(found) for found in files],
        "doubts": doubts,
        "curves": _ranges(mine, {**known, **{column.metric: column for column in table.columns}}),
        "items": items,
    }


def page_columns(table: Table, scores: Sequence[ScoreRow], known: Mapping[str, Column]) -> list[Data]:
    """Return the columns of the table, and behind them the other scores of its clips."""
    columns = {column.metric: column for column in table.columns}
    columns |= {name: known[name] for name in metric_names(scores) if name in known and name not in columns}
    found: dict[str, Data] = {
        name: {"name": name, "heading": column.clip_heading, "better": column.better, "digits": column.digits}
        for name, column in columns.items()
    }
    for name in metric_names(scores):
        found.setdefault(name, {"name": name, "heading": name, "better": "", "digits": 3})
    return list(found.values())


def doubts_about(score: ScoreRow, metric: str) -> list[Data]:
    """Return why a value is to be doubted, each with the mark that is raised beside it: u unverified, ? may be none."""
    found = [("u", _unverified(score, metric)), ("?", score.doubt(metric))]
    return [{"mark": mark, "text": text} for mark, text in found if text]


def _unverified(score: ScoreRow, metric: str) -> str:
    """Say why a value is unverified; "" when the scorer behind it had passed its anchor."""
    if score.is_verified(metric):
        return ""
    scorer = next((name for name, facts in score.scorers.items() if metric in facts.scores), None)
    if scorer is None:
        return "unverified: the file of scores does not say what made this value"
    weights = score.scorers[scorer].weights[:12] or "not named"
    return f"unverified: the anchor of {scorer} had not passed on the machine that scored (weights {weights})"


def _played(scores: Iterable[ScoreRow]) -> Iterator[str]:
    return (score.notes[name] for score in scores for name in ("clip", "reference", "target") if name in score.notes)


def _about(group: Sequence[ScoreRow], clips: Sequence[Data], places: Mapping[str, int]) -> Data:
    """Return what belongs to the item: prompt, words, reference, and the target unless a clip is the target."""
    notes = {name: value for score in reversed(group) for name, value in score.notes.items()}
    prompt = notes.get("prompt", "")
    try:
        words = split_prompt(prompt).speech if prompt else ""
    except ValueError:
        words = ""
    target = places.get(notes.get("target", ""))
    for clip in clips:
        clip["is_target"] = target is not None and clip["file"] == target
    return {
        "prompt": prompt,
        "words": words,
        "reference": places.get(notes.get("reference", "")),
        "target": None if any(clip["is_target"] for clip in clips) else target,
    }


def _clip(
    score: ScoreRow,
    columns: Sequence[Data],
    order: Mapping[str, int],
    places: Mapping[str, int],
    files: Sequence[Shown],
    doubts: list[Data],
) -> Data:
    file = places.get(score.notes.get("clip", ""))
    doubtful: dict[str, list[int]] = {}
    for name in (name for name, value in score.scores.items() if value is not None):
        for doubt in doubts_about(score, name):
            if doubt not in doubts:
                doubts.append(doubt)
            doubtful.setdefault(name, []).append(doubts.index(doubt))
    noted = score.notes.get("clip_sha256", "")
    digest = "" if file is None else files[file].digest
    return {
        "row": order[score.row],
        "seed": score.seed,
        "file": file,
        "changed": bool(noted and digest) and not digest.startswith(noted),
        "values": [score.scores.get(column["name"]) for column in columns],
        "reasons": {name: why for name, why in score.reasons.items() if score.scores.get(name) is None},
        "doubts": doubtful,
        "curves": {
            name: [curve.start_s, curve.step_s, [_short(value) for value in curve.values], list(curve.marked)]
            for name, curve in score.curves.items()
        },
        "details": {name: dict(facts.details) for name, facts in score.scorers.items() if facts.details},
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def _ranges(scores: Iterable[ScoreRow], known: Mapping[str, Column]) -> list[Data]:
    """Return name, title and the range over all items of each curve, so that items can be compared."""
    found: dict[str, list[Curve]] = {}
    for score in scores:
        for name, curve in score.curves.items():
            found.setdefault(name, []).append(curve)
    ranges = []
    for name, curves in found.items():
        values = [value for curve in curves for value in curve.values if value is not None]
        column = known.get(name)
        if column is not None and column.better == "near zero":
            values.append(0.0)
        title = name if column is None else column.title
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        ranges.append({"name": name, "title": title, "low": _short(low), "high": _short(high)})
    return ranges
