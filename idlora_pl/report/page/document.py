"""The page as one HTML file: numbers as plain HTML, clips as data that its script builds them from.

The data of each test item are clips with scores, reasons, doubts and curves, where their files are, and what is said
about them.
"""

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from idlora_pl.benchmark.prompt import split_prompt
from idlora_pl.files import read_text
from idlora_pl.report.table import COLUMNS, Column, Table
from idlora_pl.report.text import blocks, cell_text, count_text, notes
from idlora_pl.results.row import DOUBTS, PATHS, Curve, ScoreRow
from idlora_pl.results.scores_file import metric_names

SOUND_ENDINGS = (".mp3", ".wav", ".flac", ".m4a", ".ogg", ".opus", ".aac")
_PLAYED = tuple(name for name in PATHS if name != "first_frame")


@dataclass(frozen=True)
class Shown:
    """A file as a page shows it.

    Attributes:
        name: File name of the original.
        src: Where the page finds the file, relative to itself; "" where it cannot be played.
        kind: What plays it.
        said: What the page says about it, such as that it was encoded anew, or why it does not play.
        digest: SHA-256 of the original in hexadecimal digits, "" where it was not computed.
        poster: A still of it, relative to the page, "" without.
        sound: Picture of its sound, relative to the page, "" without.
        sound_s: Seconds that the picture of the sound shows.
        wide: Width over height of its picture.
    """

    name: str
    src: str = ""
    kind: Literal["video", "audio"] = "video"
    said: str = ""
    digest: str = ""
    poster: str = ""
    sound: str = ""
    sound_s: float = 0.0
    wide: float = 1.0


def paths_of(scores: Iterable[ScoreRow]) -> list[str]:
    """Return the clips, references and targets that scores name, each once."""
    return list(dict.fromkeys(score.notes[name] for score in scores for name in _PLAYED if name in score.notes))


def linked(paths: Iterable[str], folder: Path) -> dict[str, Shown]:
    """Show files from where they are.

    Args:
        paths: Relative to the current folder.
        folder: Where the page will lie.
    """
    return dict(_linked(paths, folder))


def _linked(paths: Iterable[str], folder: Path) -> Iterator[tuple[str, Shown]]:
    for path in paths:
        relative = Path(os.path.relpath(path, folder)).as_posix()
        kind: Literal["video", "audio"] = "audio" if Path(path).suffix.lower() in SOUND_ENDINGS else "video"
        yield path, Shown(Path(path).name, quote(relative), kind)


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


GENERATOR = '<meta name="generator" content="idlora table">'
_FEW_LINES = 8
"""Longer blocks are folded."""
_ASSETS = Path(__file__).parent


def to_html(
    table: Table,
    scores: Sequence[ScoreRow],
    shown: Mapping[str, Shown],
    *,
    known: Mapping[str, Column] = COLUMNS,
    beside: Sequence[str] = (),
) -> str:
    """Return the page of a table.

    The page's policy lets it run its own script and load media files, and forbids everything else.

    Args:
        table: The table.
        scores: The scores behind it; rows without clips are listed with their numbers only.
        shown: How each path in the notes of the scores is played.
        known: Titles and directions of scores that are no columns of the table.
        beside: Names of files in the page's folder to link to.
    """
    script, style = (read_text(_ASSETS / name) for name in ("page.js", "page.css"))
    data = page_data(table, scores, shown, known)
    media = "'self' file:"
    parts = {
        "POLICY": f"default-src 'none'; script-src {_allowed(script)}; style-src {_allowed(style)}; "
        f"img-src {media}; media-src {media}; base-uri 'none'; form-action 'none'",
        "GENERATOR": GENERATOR,
        "TITLE": escape(table.caption or "Scores"),
        "STYLE": style,
        "NUMBERS": _numbers(table) + _blocks(table),
        "NOTES": "".join(f"<li>{escape(note)}</li>" for note in [*_warnings(data), *notes(table)]),
        "LINKS": " ".join(f'<a href="{escape(quote(name))}">{escape(name)}</a>' for name in beside),
        # "</" or "<!--" would end or hide the script element that holds the data
        "DATA": json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"),
        "SCRIPT": script,
    }
    return re.sub(r"__([A-Z]+)__", lambda found: parts[found[1]], read_text(_ASSETS / "page.html"))


def _allowed(text: str) -> str:
    """Return the hash by which a policy allows an inline script or style."""
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


def _numbers(table: Table) -> str:
    heads = "".join(
        f'<th scope="col">{escape(text)}</th>' for text in ["row", *(c.heading for c in table.columns), "n"]
    )
    lines = []
    for row in table.rows:
        cells = [*(cell_text(table, row, column) for column in table.columns), count_text(table, row)]
        style = ' class="quoted"' if row.quoted is not None else ""
        texts = "".join(f"<td>{escape(text)}</td>" for text in cells)
        lines.append(f'<tr{style}><th scope="row">{escape(row.label)}</th>{texts}</tr>')
    return f'<div class="wide"><table class="numbers"><thead><tr>{heads}</tr></thead>{"".join(lines)}</table></div>'


def _blocks(table: Table) -> str:
    parts = []
    for block in blocks(table):
        heads, lines = block.heads, block.lines
        head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
        body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in line)}</tr>" for line in lines)
        table_text = f'<div class="wide"><table class="block"><thead><tr>{head}</tr></thead>{body}</table></div>'
        opened = " open" if len(lines) <= _FEW_LINES else ""
        summary = f"<summary>{escape(heads[0].capitalize())}: {len(lines)}</summary>"
        parts.append(f"<details{opened}>{summary}{table_text}</details>")
    return "".join(parts)


def _warnings(data: Data) -> list[str]:
    """Return what a reader must know about the clips before looking at them."""
    clips = [clip for item in data["items"] for clip in item["clips"]]
    said = []
    if changed := sum(clip["changed"] for clip in clips):
        said.append(f"{changed} of {len(clips)} clips are not the files that were scored any more; they are marked.")
    if silent := sum(clip["file"] is None or not data["files"][clip["file"]]["src"] for clip in clips):
        said.append(f"{silent} of {len(clips)} clips cannot be played; each says why.")
    if encoded := sum(bool(file["src"] and file["said"]) for file in data["files"]):
        said.append(f"{encoded} of {len(data['files'])} files are encoded anew for browsers; they are marked.")
    marks = [
        {data["doubts"][place]["mark"] for places in clip["doubts"].values() for place in places} for clip in clips
    ]
    if doubtful := sum("u" in found for found in marks):
        said.append(
            f"Values with a raised u ({doubtful} of {len(clips)} clips have some) are unverified: "
            "the anchor of their scorer had not passed on the machine that scored; `idlora doctor` says why."
        )
    if doubtful := sum("?" in found for found in marks):
        said.append(
            f"Lags with a raised ? ({doubtful} of {len(clips)} clips have some), and hollow points of curves, may be "
            f"none: {' or '.join(DOUBTS)}."
        )
    return said
