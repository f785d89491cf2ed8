"""Caption one clip: what a worker of caption_clips does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from data_tools.captions.looking import Look, look_at
from data_tools.captions.texts import Texts, completed, parse_answer
from data_tools.captions.words import load_transcriber, words_of
from data_tools.verb.lists import RejectedError, Row
from idlora_pl.data.entry import CAPTION
from idlora_pl.media import Clip, MediaError, read_recording


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
