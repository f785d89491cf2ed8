"""The paper's prompt format: `[VISUAL]: ... [SPEECH]: ... [SOUNDS]: ...`.

VISUAL says what is seen, SPEECH is what is said, word by word, and SOUNDS says how it is said and what else
is heard. Scorers read SPEECH and SOUNDS back, so a prompt without its sections is refused early.
"""

import re
from dataclasses import dataclass

SECTIONS = ("VISUAL", "SPEECH", "SOUNDS")
_FORM = " ".join(f"[{name}]: ..." for name in SECTIONS)
_HEADING = re.compile(r"\[(VISUAL|SPEECH|SOUNDS)\]\s*:?")


@dataclass(frozen=True)
class PromptSections:
    """The three parts of a prompt, without their headings.

    Attributes:
        visual: what is seen.
        speech: the words that are said.
        sounds: tone of voice and environment sounds.

    Raises:
        ValueError: when a section is empty or holds another section's heading.

    Example:
        >>> PromptSections("A man talks.", "Good morning.", "Rain.").join()
        '[VISUAL]: A man talks. [SPEECH]: Good morning. [SOUNDS]: Rain.'
    """

    visual: str
    speech: str
    sounds: str

    def __post_init__(self) -> None:
        """Refuse sections that could not be read back."""
        for name in SECTIONS:
            text = getattr(self, name.lower())
            if not text.strip():
                raise ValueError(f"prompt section [{name}] is empty; write the prompt as {_FORM}")
            if _HEADING.search(text):
                raise ValueError(f"prompt section [{name}] holds another heading: '{text}'; remove it")

    def join(self) -> str:
        """Return the prompt as one line; the inverse of `split_prompt`."""
        return " ".join(f"[{name}]: {getattr(self, name.lower()).strip()}" for name in SECTIONS)


def split_prompt(text: str) -> PromptSections:
    """Split a prompt at its three headings; they may stand in any order and on lines of their own.

    Args:
        text: `[VISUAL]: ... [SPEECH]: ... [SOUNDS]: ...`

    Returns:
        The sections, stripped of white space at both ends.

    Raises:
        ValueError: when a section is missing, empty or written twice, or text stands before the first.

    Example:
        >>> split_prompt("[VISUAL]: A man talks. [SPEECH]: Good morning. [SOUNDS]: Rain.").speech
        'Good morning.'
    """
    before, *parts = _HEADING.split(text)
    names, bodies = parts[::2], parts[1::2]
    for name in SECTIONS:
        if names.count(name) != 1:
            fault = "is missing" if name not in names else f"is written {names.count(name)} times"
            raise ValueError(f"prompt section [{name}] {fault} in '{_shortened(text)}'; write it as {_FORM}")
    if before.strip():
        raise ValueError(f"prompt has '{_shortened(before)}' before its first section; write it as {_FORM}")
    by_name = dict(zip(names, bodies, strict=True))
    return PromptSections(*(by_name[name].strip() for name in SECTIONS))


def _shortened(text: str, limit: int = 80) -> str:
    """Return `text` on one line, cut to `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
