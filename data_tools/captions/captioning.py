"""Caption one clip, what a worker of caption_clips does; and its texts, read strictly and checked to be whole.

Texts are a dict with some of the keys of `CAPTION` (visual, speech, sounds, speaking_style, environment_sounds), and
`environment` and `language` where a file of the user says them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from data_tools.captions.models import Look, look_at
from data_tools.captions.words import load_transcriber, words_of
from data_tools.verb.lists import RejectedError, Row
from idlora_pl.benchmark.items import CAPTION
from idlora_pl.benchmark.prompt import SECTIONS, PromptSections, split_prompt
from idlora_pl.files import parsed_json
from idlora_pl.media.clip import Clip, MediaError
from idlora_pl.media.reading import read_recording

Texts = dict[str, str]
KEYS = (*CAPTION, "environment", "language")
SECTION_KEYS = tuple(name.lower() for name in SECTIONS)
_FENCED = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)


def texts_of(given: object, where: str) -> Texts:
    """Return the texts of an object with keys of `KEYS`, or with `prompt` in place of the three sections.

    Raises:
        ValueError: it is something else; the message begins with `where`.
    """
    if isinstance(given, str):
        given = {"prompt": given}
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} is {given!r}; write a prompt, or an object with {', '.join(KEYS)}")
    texts = dict(given)
    if unknown := sorted(map(str, texts.keys() - {*KEYS, "prompt"})):
        raise ValueError(f"{where} has the unknown key '{unknown[0]}'; known are prompt, {', '.join(KEYS)}")
    if wrong := [name for name, text in texts.items() if not isinstance(text, str) or not text.strip()]:
        raise ValueError(f"{where} has {wrong[0]} {texts[wrong[0]]!r}; write text")
    if "prompt" in texts:
        try:
            sections = split_prompt(texts.pop("prompt"))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        for name in SECTION_KEYS:
            if texts.setdefault(name, getattr(sections, name)) != getattr(sections, name):
                raise ValueError(f"{where}: prompt and {name} differ; keep one of them")
    return {name: " ".join(text.split()) for name, text in texts.items()}


def parse_answer(answer: str, asked: Iterable[str]) -> Texts:
    """Read what a model answered: one JSON object with all keys that it was asked for, and nothing else.

    A fence of three backquotes around the object is allowed.

    Args:
        answer: of the model.
        asked: the keys.

    Raises:
        RejectedError: bad_answer, when it is something else; no_section, when a key or its text is missing.
    """
    text = fenced[1] if (fenced := _FENCED.fullmatch(answer.strip())) else answer.strip()
    shown = f"'{text[:80]}'"
    try:
        found = parsed_json(text, "the answer")
    except ValueError as error:
        raise RejectedError("bad_answer", f"not one JSON object ({error}): {shown}") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise RejectedError("bad_answer", f"not an object of texts: {shown}")
    wanted = tuple(asked)
    if missing := [name for name in wanted if not found.get(name, "").strip()]:
        raise RejectedError("no_section", f"{missing[0]} is missing: {shown}")
    if more := sorted(found.keys() - set(wanted)):
        raise RejectedError("bad_answer", f"it has '{more[0]}', which was not asked for: {shown}")
    return {name: " ".join(value.split()) for name, value in found.items()}


def completed(texts: Mapping[str, str]) -> Row:
    """Return what goes into the row of a clip: its texts and the prompt that they make.

    Raises:
        RejectedError: no_section, when the prompt would lack one; bad_section, when one holds a heading.
    """
    if missing := [name for name in SECTION_KEYS if not texts.get(name)]:
        raise RejectedError("no_section", f"nothing says its {', '.join(missing)}")
    try:
        prompt = PromptSections(*(texts[name] for name in SECTION_KEYS)).join()
    except ValueError as error:
        raise RejectedError("bad_section", str(error)) from error
    return {"prompt": prompt} | {name: texts[name] for name in KEYS if name in texts}


class Describer(Protocol):
    """A model that looks at a clip."""

    def describe(self, look: Look) -> str:
        """Return its answer; raises `RejectedError` without one."""


@dataclass(frozen=True)
class Sources:
    """Where texts come from that no file says.

    Attributes:
        describer: looks at clips; None when nothing does.
        name: of the describer in rows.
        words: recogniser by name or folder; None when nothing listens.
        weights: folder of weights of recognisers.
        language: ISO 639-1 code of what is spoken.
        n_pictures: that the describer is shown.
        with_sound: the describer hears the clip, too.
        device: of the recogniser.
    """

    describer: Describer | None = None
    name: str = ""
    words: str | None = None
    weights: Path = Path()
    language: str = "en"
    n_pictures: int = 4
    with_sound: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Job:
    """One clip to caption.

    Attributes:
        key: of the clip.
        path: its file.
        given: texts that files say.
        sources: of the others.
    """

    key: str
    path: Path
    given: Texts
    sources: Sources


def caption_clip(job: Job) -> list[Row]:
    """Caption one clip; return one row: prompt, texts and `caption_from`, or a "reason" and a "detail".

    Raises:
        ValueError: a model cannot be used at all.
    """
    try:
        return [_captioned(job)]
    except RejectedError as error:
        return [{"reason": error.reason, "detail": error.detail}]


def _captioned(job: Job) -> Row:
    sources, texts = job.sources, dict(job.given)
    origin = dict.fromkeys(texts, "files")
    hears = sources.words is not None and "speech" not in texts
    asked = [name for name in CAPTION if name not in texts and not (name == "speech" and hears)]
    looks = sources.describer is not None and bool(asked)
    clip = _read(job.path) if hears or looks else None
    if clip is not None and hears:
        transcriber = load_transcriber(str(sources.words), sources.weights, sources.device)
        texts |= {"speech": words_of(clip, transcriber, sources.language)}
        texts.setdefault("language", sources.language)
        origin["speech"] = Path(str(sources.words)).name
    if clip is not None and sources.describer is not None and asked:
        found = _described(clip, asked, texts, sources)
        texts |= found
        origin |= dict.fromkeys(found, sources.name)
    return completed(texts) | {"caption_from": origin}


def _read(path: Path) -> Clip:
    try:
        return read_recording(path)
    except (MediaError, ArithmeticError, MemoryError, EOFError) as error:
        raise RejectedError("unreadable", str(error) or type(error).__name__) from error


def _described(clip: Clip, asked: list[str], texts: Texts, sources: Sources) -> Texts:
    assert sources.describer is not None
    if "speech" in asked and not sources.with_sound:
        raise RejectedError("no_words", "no file says what is said, and a model cannot see it; give --words")
    if not len(clip.frames):
        raise RejectedError("no_frames", "there is no picture in it")
    look = look_at(clip, asked, texts.get("speech", ""), n_pictures=sources.n_pictures, with_sound=sources.with_sound)
    return parse_answer(sources.describer.describe(look), asked)
