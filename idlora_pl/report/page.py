"""A table as one page to look at and to listen to: the numbers, and the clips of all rows side by side."""

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from idlora_pl.report.render import DASH, blocks, cell_text, count_text, notes, number
from idlora_pl.report.scores import ScoreRow
from idlora_pl.report.table import Table

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.quoted { font-style: italic; }
.clips { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; width: 13rem; }
video { width: 100%; background: #eee; }
figcaption { font-size: 13px; }
h2 { margin-top: 2rem; font-size: 1.1rem; }
.note { color: #555; font-size: 13px; }
"""


def to_html(table: Table, scores: Sequence[ScoreRow], folder: Path) -> str:
    """Return the page of a table.

    Args:
        table: The table.
        scores: Scores whose notes ``clip`` and ``reference`` hold paths of mp4 files (relative to the current
            folder); rows without them are listed with their numbers only.
        folder: Where the page will lie; the paths of the clips become relative to it.
    """
    title = escape(table.caption or "Scores")
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    body = [f"<h1>{title}</h1>", _numbers(table), _blocks(table)]
    body += [f'<p class="note">{escape(note)}</p>' for note in notes(table)]
    for key in dict.fromkeys(score.key for score in scores):
        body.append(_section(table, key, [score for score in scores if score.key == key], folder))
    page = "\n".join(part for part in body if part)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{page}\n</body></html>\n'


def _numbers(table: Table) -> str:
    heads = "".join(f"<th>{escape(text)}</th>" for text in ["row", *(c.heading for c in table.columns), "n"])
    lines = []
    for row in table.rows:
        cells = [
            row.label,
            *(cell_text(table, row, column) for column in table.columns),
            count_text(table, row),
        ]
        style = ' class="quoted"' if row.quoted is not None else ""
        lines.append(f"<tr{style}>{''.join(f'<td>{escape(text)}</td>' for text in cells)}</tr>")
    return f"<table><tr>{heads}</tr>{''.join(lines)}</table>"


def _blocks(table: Table) -> str:
    parts = []
    for heads, lines in blocks(table):
        head = "".join(f"<th>{escape(text)}</th>" for text in heads)
        body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in line)}</tr>" for line in lines)
        parts.append(f"<table><tr>{head}</tr>{body}</table>")
    return "".join(parts)


def _section(table: Table, key: str, scores: Sequence[ScoreRow], folder: Path) -> str:
    """Return one test item: the reference once, then the clip of each row in the order of the table."""
    order = {row.label: place for place, row in enumerate(table.rows)}
    shown = sorted((score for score in scores if score.row in order), key=lambda score: order[score.row])
    if not shown:
        return ""
    figures = [_figure(table, score, folder) for score in shown]
    first = next((score.notes["reference"] for score in shown if "reference" in score.notes), None)
    if first is not None:
        figures.insert(0, f"<figure>{_video(first, folder)}<figcaption><b>reference</b></figcaption></figure>")
    prompt = next((score.notes["prompt"] for score in shown if "prompt" in score.notes), "")
    said = f'<p class="note">{escape(prompt)}</p>' if prompt else ""
    heading = f"<h2>{escape(key)} <small>({escape(shown[0].speaker)})</small></h2>"
    return f'<section>{heading}{said}<div class="clips">{"".join(figures)}</div></section>'


def _figure(table: Table, score: ScoreRow, folder: Path) -> str:
    lines = []
    for column in table.columns:
        value = number(score.scores.get(column.metric), column.digits)
        reason = score.reasons.get(column.metric, "") if value == DASH else ""
        lines.append(escape(f"{column.heading} {value} {reason}".strip()))
    seed = "" if score.seed is None else f", seed {score.seed}"
    video = _video(score.notes["clip"], folder) if "clip" in score.notes else ""
    caption = f"<b>{escape(score.row)}</b>{seed}<br>{'<br>'.join(lines)}"
    return f"<figure>{video}<figcaption>{caption}</figcaption></figure>"


def _video(path: str, folder: Path) -> str:
    relative = Path(os.path.relpath(path, folder)).as_posix()
    return f'<video controls preload="metadata" src="{escape(quote(relative))}"></video>'
