"""Lists of clips and pairs between the verbs, one JSON object per line, with paths relative to the list; and folders of
recordings and videos, of which every one has a name that is safe to use.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from idlora_pl.files import files_below, read_json_lines, write_json_lines

Row = dict[str, Any]


class RejectedError(Exception):
    """An item that is left out: a reason code and what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep reason and detail."""
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def read_rows(path: Path, required: Iterable[str]) -> list[Row]:
    """Read a list whose rows must have the keys `required`.

    Raises:
        ValueError: when the file is missing or empty, or a line is not such a row.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give the list that the tool before this one wrote")
    rows: list[Row] = []
    for number, row in read_json_lines(path):
        missing = [key for key in required if key not in row]
        if missing:
            raise ValueError(f"{path}, line {number} lacks '{missing[0]}'; write the list again")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} lists nothing; see the list of rejected items beside it for the reasons")
    return rows


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a list; it appears under its name only when it is complete."""
    write_json_lines(path, rows)


def located(list_path: Path, path: str) -> Path:
    """Return where a path of a list is."""
    return list_path.parent / path


def relative_to(list_path: Path, path: Path) -> str:
    """Return `path` as it is written into a list."""
    return os.path.relpath(path, list_path.parent)


SOUND_SUFFIXES = frozenset({".aac", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav"})
FILES = ("path", "sound", "voice")
"""Keys of a row that are paths: the clip, its sound at its own rate, and its sound when it is cleaned."""
_SAFE_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,119}")


def is_safe_key(key: object) -> bool:
    """Say whether a key can name a file: letters, digits, _, - and points, no more than 120, not led by a point.

    Example:
        >>> is_safe_key("ann-a-000"), is_safe_key("../ann"), is_safe_key("")
        (True, False, False)
    """
    return isinstance(key, str) and _SAFE_KEY.fullmatch(key) is not None


def rejection(row: Row, reason: str, detail: str) -> Row:
    """Return the line of a rejected clip."""
    return {name: row[name] for name in ("key", "source") if name in row} | {"reason": reason, "detail": detail}


def read_clips(path: Path, required: Sequence[str] = ("key", "path")) -> tuple[list[Row], list[Row]]:
    """Read a list of clips.

    Args:
        path: the list, or a folder of recordings, every one of which is then a clip without a speaker, hidden ones
            aside; the name of the folder that it lies in is under "folder".
        required: keys that every row must have.

    Returns:
        The clips, and the rejected rows: `unsafe_key`, `duplicate_key`, `missing_file`.

    Raises:
        ValueError: when there is no list, or it is none.
    """
    rows = _folder_rows(path) if path.is_dir() else read_rows(path, required)
    beside = path / "clips.jsonl" if path.is_dir() else path
    kept: dict[str, Row] = {}
    rejected: list[Row] = []
    for row in rows:
        key, name = row["key"], row["path"]
        if not is_safe_key(key):
            rejected.append(rejection(row, "unsafe_key", f"{key!r} cannot name a file; use letters, digits, _ and -"))
        elif key in kept:
            rejected.append(rejection(row, "duplicate_key", f"'{key}' is there twice, the first is used"))
        elif not isinstance(name, str) or "\0" in name or not located(beside, name).is_file():
            rejected.append(rejection(row, "missing_file", f"{name!r} is no file"))
        else:
            kept[key] = row
    return list(kept.values()), rejected


def _folder_rows(folder: Path) -> list[Row]:
    suffixes = SUFFIXES | SOUND_SUFFIXES
    files = [path for path in files_below(folder, suffixes) if path.is_file()]
    if not files:
        raise ValueError(f"{folder} holds no recording ({' '.join(sorted(suffixes))}); give a list or another folder")
    sources = {path.relative_to(folder).as_posix(): path for path in files}
    names = name_videos(list(sources))
    return [
        {"key": names[source], "path": source, "source": source, "speaker": "", "folder": folder_of(path, folder)}
        for source, path in sources.items()
    ]


def moved(row: Row, source: Path, target: Path) -> Row:
    """Return a row of the list `source` for the list `target`: its paths lead to the same files.

    Args:
        row: of the list.
        source: the list, or the folder that was given in its place.
        target: the new list.
    """
    beside = source / "clips.jsonl" if source.is_dir() else source
    return row | {name: relative_to(target, located(beside, row[name])) for name in FILES if row.get(name)}


def file_of(row: Row, source: Path, name: str = "path") -> Path:
    """Return the file of a row of `read_clips(source)`."""
    return located(source / "clips.jsonl" if source.is_dir() else source, row[name])


SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})

SpeakerFrom = Literal["folder", "file", "none"]
SPEAKER_FROM: SpeakerFrom = "none"
"""The default of every tool: folders may be days or places, and strangers must not become one person."""


def find_videos(source: Path) -> list[Path]:
    """Return `source` itself, or all videos below it, sorted; hidden files and folders are left out.

    Raises:
        ValueError: when there are none.
    """
    if source.is_file():
        return [source]
    if not source.exists():
        raise ValueError(f"{source} does not exist; give a video file or a folder of videos")
    found = files_below(source, SUFFIXES)
    if not found:
        raise ValueError(
            f"{source} holds no video ({' '.join(sorted(SUFFIXES))}; hidden files and folders are left out); give "
            "another folder"
        )
    return found


def refuse_inside(source: Path, output: Path) -> None:
    """Raise ValueError when what is written would be found as input by the next run."""
    inner, outer = output.resolve(), source.resolve()
    if source.is_dir() and (inner == outer or outer in inner.parents):
        raise ValueError(f"output {output} lies in {source}, whose next run would take it for input; choose another")


def part_unnamable(sources: dict[str, Path]) -> tuple[dict[str, Path], list[dict[str, object]]]:
    """Part videos from those whose names are not UTF-8 and stand in no list; those are given as rejected rows."""
    good, rejected = {}, []
    for source, path in sources.items():
        try:
            source.encode()
            good[source] = path
        except UnicodeEncodeError:
            shown = os.fsencode(source).decode("utf-8", "backslashreplace")
            detail = "the name of the file is not UTF-8; rename it"
            rejected.append({"source": shown, "start_s": 0.0, "reason": "bad_name", "detail": detail})
    return good, rejected


def name_videos(sources: Sequence[str]) -> dict[str, str]:
    """Give every video a name of its own for the keys of its clips: letters, digits, _ and -, at most 60.

    Example:
        >>> name_videos(["s1/a.mpg", "s1/b.mpg"])
        {'s1/a.mpg': 's1-a', 's1/b.mpg': 's1-b'}
    """
    plain = {
        source: re.sub(r"[^A-Za-z0-9_]+", "-", source.rpartition(".")[0] or source).strip("-")[:50]
        for source in sources
    }
    uses = Counter(plain.values())
    return {
        source: name if name and uses[name] == 1 else f"{name}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"
        for source, name in plain.items()
    }


def folder_of(path: Path, source: Path) -> str:
    """Return the name of the folder that a file lies in, "" where that is the source itself: it names nobody.

    Args:
        path: of the file.
        source: the folder that was searched through; a file that was given by itself lies in a folder of its own.

    Example:
        >>> folder_of(Path("raw/ann/a.mp4"), Path("raw")), folder_of(Path("raw/a.mp4"), Path("raw"))
        ('ann', '')
    """
    folder = path.absolute().parent
    return "" if folder.resolve() == source.resolve() else folder.name


def speaker_of(path: Path, source: Path, speaker_from: SpeakerFrom) -> str:
    """Return who talks, going by names: the folder's, the file's, or "" when that is not known."""
    return {"folder": folder_of(path, source), "file": path.stem, "none": ""}[speaker_from]
