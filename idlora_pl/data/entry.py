"""One entry of a prompt file or item of a manifest: checked, completed, with absolute paths."""

import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from idlora_pl.method.noise import checked_seed
from idlora_pl.prompt import PromptSections, split_prompt

FORMAT = "idlora-benchmark-1"
PATHS = ("reference_path", "first_frame_path", "target_path", "compare_path")
CAPTION = ("visual", "speech", "sounds", "speaking_style", "environment_sounds")
_PLAIN = ("prompt", "output_name", "seed", "speaker", "environment", "reference_speech", *PATHS)
_ABOUT = ("split", "language", "source", "reference_source", "consent", "clips")
KNOWN = (*_PLAIN, *_ABOUT, *CAPTION)
"""Keys of an entry. `reference_speech` holds the words of the reference; `source` and `reference_source` name the
videos that target and reference were cut from; `clips` maps a method to its clip of this entry."""

_ALIASES = {"id": "output_name"} | {path.removesuffix("_path"): path for path in PATHS}
_SHORT_PATHS = tuple(path.removesuffix("_path") for path in PATHS)
_ITEM_KEYS = ("id", "speaker", *_SHORT_PATHS, "prompt", "caption", "environment", "reference_speech", "seed", *_ABOUT)
_TEXTS = ("environment", "reference_speech", "split", "source", "reference_source", "consent", *CAPTION)
_LANGUAGE = re.compile(r"[a-z]{2}")
_MAX_NAME_BYTES = 200
"""File systems take 255; endings and marks of unfinished files come on top."""


class PromptError(ValueError):
    """A prompt file cannot be used; the message names the file, the entry and the fix."""


def entry_of(item: object, index: int, path: Path, seed: int, *, in_manifest: bool = False) -> dict[str, Any]:
    """Check and complete one entry.

    Args:
        item: As it stands in the file.
        index: Its place.
        path: The file; paths of the entry are relative to it.
        seed: The entry without a seed gets seed + index.
        in_manifest: Whether it is the item of a manifest, which needs an id.

    Raises:
        PromptError: The entry is not as described in `read_prompts`, or a path does not exist.
    """
    where = f"manifest {path}, item {index}" if in_manifest else f"prompt file {path}, entry {index}"
    if not isinstance(item, Mapping):
        least = "'id'" if in_manifest else "'prompt'"
        raise PromptError(f"{where} has no text under {least}; write at least {{{least}: '...'}}")
    if in_manifest and "id" not in item:
        raise PromptError(f"{where} has no id; clips are named by it: write {{'id': '...'}}")
    given = _renamed(item, where, in_manifest)
    entry: dict[str, Any] = {name: given.get(name) for name in KNOWN}
    _check_texts(entry, where)
    entry["prompt"] = _completed_caption(entry, "id" in item, where)
    entry["output_name"] = _name(entry["output_name"], index, "id" in item, where)
    entry["seed"] = seed + index if entry["seed"] is None else entry["seed"]
    try:
        checked_seed(entry["seed"], f"{where}: seed")
    except ValueError as error:
        raise PromptError(str(error)) from error
    for name in PATHS:
        entry[name] = _located(entry[name], key_of(name, in_manifest), path, where)
    entry["clips"] = _clips(entry["clips"], path, where)
    return entry


def key_of(name: str, in_manifest: bool) -> str:
    """Return the key of an entry as the file writes it: a manifest says id and reference, not output_name."""
    return next((alias for alias, known in _ALIASES.items() if known == name), name) if in_manifest else name


def _renamed(item: Mapping[str, Any], where: str, in_manifest: bool) -> dict[str, Any]:
    """Return the entry with the keys of prompt files, the caption's parts beside the others."""
    caption = item.get("caption", {})
    if not isinstance(caption, Mapping) or (unknown := sorted(set(caption) - set(CAPTION))):
        wrong = repr(caption) if not isinstance(caption, Mapping) else f"the unknown part '{unknown[0]}'"
        raise PromptError(f"{where} has a caption with {wrong}; known are {', '.join(CAPTION)}")
    given: dict[str, Any] = dict(caption)
    for name, value in item.items():
        if name == "caption":
            continue
        known = _ALIASES.get(name, name)
        if known not in KNOWN:
            keys = _ITEM_KEYS if in_manifest else (*KNOWN, *_ALIASES, "caption")
            raise PromptError(f"{where} has the unknown key '{name}'; known are {', '.join(keys)}")
        if known in given:
            raise PromptError(f"{where} says '{key_of(known, in_manifest)}' twice; keep one")
        given[known] = value
    return given


def _check_texts(entry: Mapping[str, Any], where: str) -> None:
    for name in ("speaker", *_TEXTS):
        value, kinds = entry[name], (str, int) if name == "speaker" else (str,)
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise PromptError(f"{where} has {name} {value!r}; write text")
    language = entry["language"]
    if language is not None and not (isinstance(language, str) and _LANGUAGE.fullmatch(language)):
        raise PromptError(f"{where} has language {language!r}; write an ISO 639-1 code such as 'en'")


def _completed_caption(entry: dict[str, Any], is_item: bool, where: str) -> str | None:
    """Fill in the prompt from the caption or the caption from the prompt; refuse two that disagree."""
    parts = [entry[name] for name in ("visual", "speech", "sounds")]
    prompt = entry["prompt"]
    try:
        if prompt is None and all(parts):
            return PromptSections(*parts).join()
        if prompt is None and is_item:
            return None
        if not isinstance(prompt, str):
            raise PromptError(f"{where} has no text under 'prompt'; write at least {{'prompt': '...'}}")
        sections = split_prompt(prompt)
    except PromptError:
        raise
    except ValueError as error:
        raise PromptError(f"{where}: {error}") from error
    for name, said in zip(("visual", "speech", "sounds"), parts, strict=True):
        if said is not None and said.strip() != getattr(sections, name):
            raise PromptError(f"{where}: prompt and caption differ in {name}; keep one of them")
        entry[name] = getattr(sections, name)
    return prompt


def _name(name: object, index: int, is_item: bool, where: str) -> str:
    """Return the name that clips of the entry have, without their ending."""
    if is_item:
        return checked_id(name, where)
    found = Path(str(name or f"{index:04d}")).name.removesuffix(".mp4")
    return _short(found, "output_name", where)


def checked_id(name: object, where: str) -> str:
    """Return the id of an item; raise PromptError where no file can have it as its name."""
    if not isinstance(name, str) or not name or Path(name).name != name or name.startswith("."):
        raise PromptError(f"{where} has id {name!r}; clips are named by it: write text without '/' and leading '.'")
    return _short(name, "id", where)


def _short(name: str, key: str, where: str) -> str:
    n_bytes = len(name.encode(errors="surrogatepass"))
    if n_bytes > _MAX_NAME_BYTES:
        raise PromptError(
            f"{where} has the {key} '{name[:20]}...' of {n_bytes} bytes; clips are named by it: write at most "
            f"{_MAX_NAME_BYTES}"
        )
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        raise PromptError(f"{where} has {key} {name!r}; clips are named by it: leave out what cannot be printed")
    return name


def _located(value: object, name: str, path: Path, where: str) -> str | None:
    if value is None:
        return None
    located = path.parent / str(value)
    if os.path.isdir(located):
        raise PromptError(f"{where}: {name} '{value}' is a folder ({located}); name the file in it")
    if not os.path.isfile(located):
        raise PromptError(f"{where}: {name} '{value}' does not exist (looked at {located}); correct it")
    return str(located)


def _clips(value: object, path: Path, where: str) -> dict[str, str]:
    """Return the clips of methods; whether they exist is seen when they are scored."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(clip, str) for clip in value.values()):
        raise PromptError(f"{where} has clips {value!r}; write {{'method': 'path', ...}}")
    for method, clip in value.items():
        _short(Path(clip).stem, f"clip of {method}", where)
    return {str(method): str(path.parent / clip) for method, clip in value.items()}
