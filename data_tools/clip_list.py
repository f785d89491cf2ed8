"""The clips of a list, or of a folder of recordings, of which every one has a file and a name that is safe to use."""

import re
from collections.abc import Sequence
from pathlib import Path

from data_tools.manifest import Row, located, read_rows, relative_to
from data_tools.videos import SUFFIXES, folder_of, name_videos
from idlora_pl.files import files_below

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
