"""The page as one HTML file: numbers as plain HTML, clips as data that its script builds them from."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from pathlib import Path
from urllib.parse import quote

from idlora_pl.files import read_text
from idlora_pl.report.page.items import Data, page_data
from idlora_pl.report.page.shown import Shown
from idlora_pl.report.table import COLUMNS, Column, Table
from idlora_pl.report.text import blocks, cell_text, count_text, notes
from idlora_pl.results.row import DOUBTS
from idlora_pl.results.scores_file import ScoreRow

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
