"""What a clip should be like: voice, words, sounds and target of its item."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from idlora_pl.files import sha256_of
from idlora_pl.media import Clip, MediaError, read_audio, read_recording
from idlora_pl.media.sound import UnusableSoundError
from idlora_pl.metrics.clip_mean import Expected

Entry = Mapping[str, Any]

_FILES = ("reference_path", "compare_path", "target_path")
_TEXTS = ("speech", "sounds", "speaking_style", "environment_sounds", "environment", "language")


@dataclass(frozen=True)
class Wanted:
    """What a clip is compared with.

    Attributes:
        expected: As scorers take it.
        faults: Reason code that stands for another: {"no_reference": "reference_unreadable"} where there is a
            reference that cannot be read.
    """

    expected: Expected
    faults: Mapping[str, str]


def wanted_of(entry: Entry, *, with_target: bool = True) -> Wanted:
    """Read what the clip of an entry should be like.

    Args:
        entry: As `read_prompts` gives it. The voice is that of `compare_path`, else of the reference.
        with_target: Whether to read the real clip, which takes time and memory.
    """
    faults: dict[str, str] = {}
    voice, rate = None, None
    if (path := entry["compare_path"] or entry["reference_path"]) is not None:
        try:
            voice, rate = read_audio(path)
        except UnusableSoundError as error:
            faults["no_reference"] = f"reference_{error.reason}"
        except (MediaError, MemoryError):
            faults["no_reference"] = "reference_unreadable"
    target: Clip | None = None
    if with_target and entry["target_path"] is not None:
        try:
            target = read_recording(entry["target_path"])
        except (MediaError, MemoryError):
            faults["no_target"] = "target_unreadable"
    expected = Expected(
        voice,
        rate,
        entry["speech"] or "",
        entry["environment"] or "",
        target,
        entry["sounds"] or "",
        entry["environment_sounds"] or "",
        entry["speaking_style"] or "",
        entry["language"] or "en",
        entry["reference_speech"] or "",
    )
    return Wanted(expected, faults)


def expected_of(entry: Entry) -> Expected:
    """Return what `wanted_of` reads."""
    return wanted_of(entry).expected


def item_digest(entry: Entry) -> str:
    """Return 16 hex digits for everything that a clip of the entry is compared with: texts, voice and target."""
    files = {name: sha256_of(Path(entry[name])) for name in _FILES if entry[name] is not None}
    texts = {name: entry[name] for name in _TEXTS}
    if entry["reference_speech"] is not None:
        texts["reference_speech"] = entry["reference_speech"]
    content = json.dumps([texts, files], sort_keys=True)
    return sha256(content.encode()).hexdigest()[:16]
