"""The words of subtitles (.srt, .vtt) as they are found.

Taken out are rolling repeats, tags, blank lines, marks of who speaks, and what is heard but not said, as in [Music].
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{2})[,.](\d{1,3})"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}.*")
_ARROW = re.compile(r"\d\s*-->\s*\d")
_BLOCKS = ("NOTE", "STYLE", "REGION")
"""What a block of WebVTT begins with that is no cue."""

# a tag, a time inside a cue, a position such as {\an8}, the line breaks of ASS, and what shows who speaks
_TAGS = re.compile(r"</?[a-zA-Z][^<>]*>|<(?:\d+:)?\d+:\d+[.,]\d+>|\{\\[^{}]*\}|\\[Nnh]")
_SPEAKER = re.compile(r"(?:^|(?<=\s))>>+\s*|^\s*[-\u2013\u2014]\s*(?=[^\W\d])")
# what is heard and is no word: sounds in brackets, and the notes around what is sung
_SOUNDS = re.compile(r"\[[^\[\]]*\]|[\u2669-\u266c]")
# zero width and direction marks, which are no letters of a word
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")

_FLASH_S = 0.05
"""Converted automatic captions show each line once more for this long at most."""


@dataclass(frozen=True)
class Cue:
    """One subtitle.

    Attributes:
        start_s: When it appears.
        end_s: When it disappears.
        lines: Its lines without tags, none of them blank.
    """

    start_s: float
    end_s: float
    lines: tuple[str, ...]


def read_cues(text: str, where: str) -> list[Cue]:
    r"""Return the cues of an .srt or .vtt file in the order in which they appear.

    Args:
        text: The file.
        where: Its name, for errors.

    Raises:
        ValueError: There is no cue, or a line with an arrow has no two times.

    Example:
        >>> read_cues("1\n00:00:00,000 --> 00:00:02,000\n{\\an8}<i>Tom &amp; I</i>\n", "a.srt")
        [Cue(start_s=0.0, end_s=2.0, lines=('Tom & I',))]
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    # a line with two times begins a cue, whatever stands between it and the one before: a cue may hold blank lines
    starts = [number for number, line in enumerate(lines) if _is_times(line, number, where)]
    if not starts:
        raise ValueError(f"{where} has no line 00:00:00,000 --> 00:00:00,000; it holds no subtitles")
    is_web = lines[0].lstrip("\ufeff").startswith("WEBVTT")
    cues = []
    for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
        found = _TIMES.fullmatch(lines[start])
        assert found is not None
        held = lines[start + 1 : stop]
        if stop < len(lines) and _is_head(held, is_web):
            held = held[:-1]
        shown = _spoken("\n".join(_without_blocks(held) if is_web else held))
        cues.append(Cue(_seconds(found.groups()[:4]), _seconds(found.groups()[4:]), shown))
    return sorted(cues, key=lambda cue: cue.start_s)


def _is_times(line: str, number: int, where: str) -> bool:
    if _TIMES.fullmatch(line):
        return True
    if _ARROW.search(line):
        raise ValueError(f"{where}, line {number + 1} is '{line.strip()}'; write 00:00:00,000 --> 00:00:00,000")
    return False


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = (part or "0" for part in parts)
    return 3600 * int(hours) + 60 * int(minutes) + int(seconds) + int(fraction.ljust(3, "0")) / 1000


def _is_head(lines: Sequence[str], is_web: bool) -> bool:
    """Say whether the last line is the number of the next cue, or in WebVTT its name, which follows a blank line."""
    *before, last = ("", *lines)
    return last.strip().isdecimal() or (is_web and bool(last.strip()) and not before[-1].strip())


def _without_blocks(lines: Sequence[str]) -> Iterator[str]:
    """Yield lines without the notes and styles of WebVTT, which begin after a blank line and end at one."""
    blank, in_block = False, False
    for line in lines:
        if blank and line.split(" ")[0].strip() in _BLOCKS:
            in_block = True
        blank = not line.strip()
        in_block = in_block and not blank
        if not in_block:
            yield line


def _spoken(text: str) -> tuple[str, ...]:
    """Return the lines that are said in the text of a cue, none of them blank."""
    plain = _TAGS.sub(lambda tag: "\n" if tag[0] in ("\\N", "\\n") else " " if tag[0] == "\\h" else "", text)
    plain = _SOUNDS.sub(" ", unicodedata.normalize("NFC", _INVISIBLE.sub("", html.unescape(plain))))
    parts = (" ".join(_SPEAKER.sub("", part).split()) for part in plain.split("\n"))
    return tuple(part for part in parts if part)


def spoken_words(cues: Sequence[Cue], begin_s: float, end_s: float) -> str:
    """Return what is said in a part of a recording: the cues whose middle lies in it, every line once.

    Automatic captions roll: a cue shows the line before once more above the new one, or a line that grows. What a
    cue repeats of the one before is left out where both are shown at once, and where they touch and new words follow
    or one of them only flashes. Words that are said twice, in cues that follow one another, stay.

    Args:
        cues: As `read_cues` gives them.
        begin_s: Start of the part in seconds.
        end_s: Its end.
    """
    said: list[str] = []
    before: Cue | None = None
    for index, cue in enumerate(cues):
        fresh = cue.lines if before is None else _fresh(before, cue)
        until_s = cue.end_s
        if index + 1 < len(cues) and _fresh(cue, cues[index + 1]) != cues[index + 1].lines:
            # what the next cue repeats was said before that appeared
            until_s = min(until_s, cues[index + 1].start_s)
        if fresh and begin_s <= (cue.start_s + until_s) / 2 < end_s:
            said += fresh
        if cue.lines:
            before = cue
    return " ".join(said)


def _fresh(before: Cue, cue: Cue) -> tuple[str, ...]:
    """Return the lines of a cue without those that it repeats of the one before."""
    for n_lines in range(len(before.lines), 0, -1):
        repeated = " ".join(before.lines[-n_lines:]).split()
        words = " ".join(cue.lines).split()
        if words[: len(repeated)] != repeated:
            continue
        gap_s = cue.start_s - before.end_s
        rolls = len(words) > len(repeated) or min(_length_s(before), _length_s(cue)) <= _FLASH_S
        if gap_s < -_FLASH_S or (gap_s <= _FLASH_S and rolls):
            rest = " ".join(words[len(repeated) :])
            return (rest,) if rest else ()
    return cue.lines


def _length_s(cue: Cue) -> float:
    return cue.end_s - cue.start_s
