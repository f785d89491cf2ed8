"""The texts of one clip: read strictly, put together, and checked to be whole.

Texts are a dict with some of the keys of `CAPTION` (visual, speech, sounds, speaking_style, environment_sounds), and
`environment` and `language` where a file of the user says them.
"""

import re
from collections.abc import Iterable, Mapping

from data_tools.verb.lists import RejectedError, Row
from idlora_pl.data.entry import CAPTION
from idlora_pl.files import parsed_json
from idlora_pl.prompt import SECTIONS, PromptSections, split_prompt

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
