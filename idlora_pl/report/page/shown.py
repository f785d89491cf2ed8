"""How a page plays a file: where the file is, and what is said about it."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from idlora_pl.results.row import PATHS, ScoreRow

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
