"""Texts that the user brings: one JSON file for all clips, or a folder with a file for each."""

import re
from collections.abc import Mapping
from pathlib import Path

from data_tools.captions.captioning import Texts, texts_of
from data_tools.captions.subtitles import read_cues, spoken_words
from data_tools.verb.lists import Row, read_rows
from idlora_pl.benchmark.prompt import SECTIONS
from idlora_pl.files import read_json, read_text

SUBTITLES = (".srt", ".vtt")
ENDINGS = (".json", ".txt", *SUBTITLES)
_NAMES = ("key", "source")
_IGNORED = {"key", "source", "speaker", "consent"}
# in any case: what was meant as a heading and is none is refused, not spoken
_HEADING = re.compile(rf"\[({'|'.join(SECTIONS)})\]", re.IGNORECASE)


def read_texts(path: Path, rows: list[Row]) -> dict[str, Texts]:
    """Return the texts of clips by key; a clip that nothing is said about is left out.

    Args:
        path: a .json file {"<clip key or source>": "<prompt>" or {"visual": ..., ...}}; a .jsonl file whose rows have
            "key" or "source" and texts; or a folder with <key>.json, .txt, .srt or .vtt, or the same named after the
            source, such as s1/a.srt for s1/a.mp4. A .txt is a prompt, or what is said when it has no heading of one;
            subtitles are what is said, those of a source being cut to the time of the clip.
        rows: the clips.

    Raises:
        ValueError: a file cannot be read or is something else; the message names it.
    """
    if path.is_dir():
        found = {row["key"]: _from_folder(path, row) for row in rows}
    else:
        given = _from_jsonl(path) if path.suffix == ".jsonl" else _from_json(path)
        found = {row["key"]: given.get(row["key"], given.get(str(row.get("source")), {})) for row in rows}
    return {key: texts for key, texts in found.items() if texts}


def _from_json(path: Path) -> dict[str, Texts]:
    found = _parsed(path)
    if not isinstance(found, dict):
        raise ValueError(f'{path} must be one object {{"<clip key or source>": "<prompt>"}}')
    return {name: texts_of(given, f"{path}, '{name}'") for name, given in found.items()}


def _parsed(path: Path) -> object:
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist; give a JSON file or a folder of texts") from error


def _from_jsonl(path: Path) -> dict[str, Texts]:
    found: dict[str, Texts] = {}
    for number, row in enumerate(read_rows(path, ()), 1):
        where = f"{path}, row {number}"
        if not isinstance(row, dict) or not (name := next((row[name] for name in _NAMES if row.get(name)), None)):
            raise ValueError(f"{where} has neither 'key' nor 'source'; add one of them")
        found[str(name)] = texts_of({key: value for key, value in row.items() if key not in _IGNORED}, where)
    return found


def _from_folder(folder: Path, row: Row) -> Texts:
    """Read the files of one clip: its own before those of its source, .json before .txt and subtitles."""
    source = str(row.get("source") or "")
    texts: Texts = {}
    for name in (row["key"], str(Path(source).with_suffix("")) if source else None):
        if name is None or not (folder / name).resolve().is_relative_to(folder.resolve()):
            continue
        for ending in ENDINGS:
            file = folder / f"{name}{ending}"
            if file.is_file():
                texts = _from_file(file, row if name != row["key"] else {}) | texts
    return texts


def _from_file(file: Path, row: Mapping[str, object]) -> Texts:
    """Read one file; `row` has the time of the clip in the video that the file describes, or is empty."""
    if file.suffix == ".json":
        return texts_of(_parsed(file), str(file))
    text = read_text(file)
    if file.suffix == ".txt" and _HEADING.search(text):
        return texts_of(text, str(file))
    if file.suffix in SUBTITLES:
        begin_s = float(str(row.get("start_s", 0.0)))
        end_s = begin_s + float(str(row.get("duration_s", "inf")))
        text = spoken_words(read_cues(text, str(file)), begin_s, end_s)
    return {"speech": " ".join(text.split())} if text.strip() else {}
