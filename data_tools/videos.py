"""Find videos and name what is cut from them."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from idlora_pl.files import files_below

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
