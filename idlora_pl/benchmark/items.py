"""What to generate and to score: the JSON of the authors' batch scripts, and benchmark manifests, read as one.

Both become lists of `Item`: checked, completed, with absolute paths. The schema of a manifest is in docs/scoring.md.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import DataLoader

from idlora_pl.benchmark.prompt import PromptSections, split_prompt
from idlora_pl.distributed import shared_loader
from idlora_pl.files import read_json
from idlora_pl.media.reading import read_image, read_voice
from idlora_pl.method.noise import checked_seed

FORMAT = "idlora-benchmark-1"
PATHS = ("reference_path", "first_frame_path", "target_path", "compare_path")
CAPTION = ("visual", "speech", "sounds", "speaking_style", "environment_sounds")
_PLAIN = ("prompt", "output_name", "seed", "speaker", "environment", "reference_speech", *PATHS)
_ABOUT = ("split", "language", "source", "reference_source", "consent", "clips")
_KNOWN = (*_PLAIN, *_ABOUT, *CAPTION)
"""Keys of an entry of a prompt file. Those of `_ALIASES` are the ones that a manifest, and `Item`, name otherwise."""

_ALIASES = {"id": "output_name"} | {path.removesuffix("_path"): path for path in PATHS}
_SHORT_PATHS = tuple(path.removesuffix("_path") for path in PATHS)
_ITEM_KEYS = ("id", "speaker", *_SHORT_PATHS, "prompt", "caption", "environment", "reference_speech", "seed", *_ABOUT)
_TEXTS = ("environment", "reference_speech", "split", "source", "reference_source", "consent", *CAPTION)
_LANGUAGE = re.compile(r"[a-z]{2}")
_MAX_NAME_BYTES = 200
"""File systems take 255; endings and marks of unfinished files come on top."""


class PromptError(ValueError):
    """A prompt file cannot be used; the message names the file, the entry and the fix."""


@dataclass(frozen=True)
class Item:
    """What one clip is generated from, and what it is compared with; None where nothing is known.

    Attributes:
        id: Name of its clips, without their ending.
        prompt: `[VISUAL]: ... [SPEECH]: ... [SOUNDS]: ...`; "" for an item that can only be scored.
        seed: Seed of the noise; None for a recording, which has none.
        speaker: Who speaks.
        reference: Voice to generate with: a sound, or a clip with sound.
        first_frame: Face to generate with.
        target: The real clip that the prompt describes.
        compare: Another recording of the speaker, to compare the voice with; the reference is taken where it is None.
        reference_speech: Words of the reference.
        visual: What is seen, as in the prompt.
        speech: What is said, as in the prompt.
        sounds: What is heard, as in the prompt.
        speaking_style: How is spoken.
        environment_sounds: What is heard behind the voice; "none" for nothing.
        environment: Name of the place (nano world).
        language: ISO 639-1 code of the speech.
        split: Split of the benchmark.
        source: Video that the target was cut from.
        reference_source: Video that the reference was cut from.
        consent: What is known about the speaker's consent.
        clips: Clips of methods, which need not exist, by name of the method.
    """

    id: str
    prompt: str = ""
    seed: int | None = None
    speaker: str | None = None
    reference: Path | None = None
    first_frame: Path | None = None
    target: Path | None = None
    compare: Path | None = None
    reference_speech: str | None = None
    visual: str | None = None
    speech: str | None = None
    sounds: str | None = None
    speaking_style: str | None = None
    environment_sounds: str | None = None
    environment: str | None = None
    language: str | None = None
    split: str | None = None
    source: str | None = None
    reference_source: str | None = None
    consent: str | None = None
    clips: Mapping[str, Path] = field(default_factory=dict)

    @property
    def person(self) -> str:
        """Who speaks; an item that does not say is a person of its own."""
        return self.speaker or self.id

    def to(self, _device: object) -> "Item":
        """The same item: it holds no tensor. Lightning asks for it when it moves batches and predictions."""
        return self


def item_of(written: object, index: int, path: Path, seed: int, *, in_manifest: bool = False) -> Item:
    """Check and complete one item.

    Args:
        written: As it stands in the file.
        index: Its place.
        path: The file; paths of the item are relative to it.
        seed: The item without a seed gets seed + index.
        in_manifest: Whether the file is a manifest, whose items need an id.

    Raises:
        PromptError: The item is not as described in `read_prompts`, or a path does not exist.
    """
    where = f"manifest {path}, item {index}" if in_manifest else f"prompt file {path}, entry {index}"
    if not isinstance(written, Mapping):
        least = "'id'" if in_manifest else "'prompt'"
        raise PromptError(f"{where} has no text under {least}; write at least {{{least}: '...'}}")
    if in_manifest and "id" not in written:
        raise PromptError(f"{where} has no id; clips are named by it: write {{'id': '...'}}")
    given = _renamed(written, where, in_manifest)
    entry: dict[str, Any] = {name: given.get(name) for name in _KNOWN}
    _check_texts(entry, where)
    entry["speaker"] = None if entry["speaker"] is None else str(entry["speaker"])
    entry["prompt"] = _completed_caption(entry, "id" in written, where) or ""
    entry["output_name"] = _name(entry["output_name"], index, "id" in written, where)
    entry["seed"] = seed + index if entry["seed"] is None else entry["seed"]
    try:
        checked_seed(entry["seed"], f"{where}: seed")
    except ValueError as error:
        raise PromptError(str(error)) from error
    for name in PATHS:
        entry[name] = _located(entry[name], key_of(name, in_manifest), path, where)
    entry["clips"] = _clips(entry["clips"], path, where)
    return Item(**{key_of(name, in_manifest=True): value for name, value in entry.items()})


def key_of(name: str, in_manifest: bool) -> str:
    """Return the key of an entry as the file writes it: a manifest says id and reference, not output_name."""
    return next((alias for alias, known in _ALIASES.items() if known == name), name) if in_manifest else name


def _renamed(written: Mapping[str, Any], where: str, in_manifest: bool) -> dict[str, Any]:
    """Return the entry with the keys of prompt files, the caption's parts beside the others."""
    caption = written.get("caption", {})
    if not isinstance(caption, Mapping) or (unknown := sorted(set(caption) - set(CAPTION))):
        wrong = repr(caption) if not isinstance(caption, Mapping) else f"the unknown part '{unknown[0]}'"
        raise PromptError(f"{where} has a caption with {wrong}; known are {', '.join(CAPTION)}")
    given: dict[str, Any] = dict(caption)
    for name, value in written.items():
        if name == "caption":
            continue
        known = _ALIASES.get(name, name)
        if known not in _KNOWN:
            keys = _ITEM_KEYS if in_manifest else (*_KNOWN, *_ALIASES, "caption")
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


def _located(value: object, name: str, path: Path, where: str) -> Path | None:
    if value is None:
        return None
    located = path.parent / str(value)
    if os.path.isdir(located):
        raise PromptError(f"{where}: {name} '{value}' is a folder ({located}); name the file in it")
    if not os.path.isfile(located):
        raise PromptError(f"{where}: {name} '{value}' does not exist (looked at {located}); correct it")
    return located


def _clips(value: object, path: Path, where: str) -> dict[str, Path]:
    """Return the clips of methods; whether they exist is seen when they are scored."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(clip, str) for clip in value.values()):
        raise PromptError(f"{where} has clips {value!r}; write {{'method': 'path', ...}}")
    for method, clip in value.items():
        _short(Path(clip).stem, f"clip of {method}", where)
    return {str(method): path.parent / clip for method, clip in value.items()}


_LISTS = ("samples", "variations", "items")
_MANIFEST_KEYS = ("format", "name", "items")


def read_prompts(
    path: str | Path, *, seed: int = 42, use: Literal["generation", "scoring"] = "generation"
) -> list[Item]:
    """Read a prompt file (a list of entries, or an object with it under `samples` or `variations`) or a manifest.

    An entry has `prompt`, and may have `reference_path` (voice), `first_frame_path` (face), `output_name`, `seed`;
    for scoring also `speaker`, `compare_path` (another clip of the speaker; the reference is taken where it is
    missing), `target_path` (the real clip), parts of the caption and clips of methods. An item of a manifest says the
    same as `id`, `reference`, `first_frame`, `compare`, `target` and `caption`. Paths are relative to the file.

    Args:
        path: JSON file.
        seed: Item i without a seed of its own gets seed + i.
        use: For "generation" each item needs a prompt; one that is only scored may lack it.

    Returns:
        The items, with captions that were completed and paths made absolute.

    Raises:
        PromptError: When the file or an entry is not as described, or a path does not exist.
    """
    path = Path(path)
    listed, in_manifest = _items(path)
    kind, word = ("manifest", "item") if in_manifest else ("prompt file", "entry")
    items = [item_of(written, index, path, seed, in_manifest=in_manifest) for index, written in enumerate(listed)]
    if use == "generation" and (bare := [item for item in items if not item.prompt]):
        raise PromptError(
            f"{kind} {path}: {word} '{bare[0].id}' has no prompt to generate from; "
            "give it 'prompt', or a caption with visual, speech and sounds"
        )
    names = Counter(unicodedata.normalize("NFC", item.id) for item in items)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        key = key_of("output_name", in_manifest)
        raise PromptError(f"{kind} {path} uses {key} '{twice}' twice; give every {word} its own")
    return items


def manifest_name(path: str | Path) -> str:
    """Return the name that a manifest gives itself; of other files that of the file."""
    found = _content(Path(path))
    name = found.get("name") if isinstance(found, dict) else None
    return str(name) if name else Path(path).stem


def refuse_unusable(items: Sequence[Item]) -> None:
    """Read every face and every voice once, so that one that cannot be used is named before anything is sampled.

    Raises:
        MediaError: A face is no picture, or a voice is silent or holds something else than numbers.
    """
    for face in dict.fromkeys(item.first_frame for item in items if item.first_frame is not None):
        read_image(face)
    for voice in dict.fromkeys(item.reference for item in items if item.reference is not None):
        read_voice(voice)


def _items(path: Path) -> tuple[list[object], bool]:
    """Return the list in a file, after the manifest around it was checked, and whether it is of a manifest."""
    found = _content(path)
    in_manifest = isinstance(found, dict) and "items" in found
    if in_manifest:
        if found.get("format") != FORMAT:
            raise PromptError(f"manifest {path} has format {found.get('format')!r}; this version reads '{FORMAT}'")
        if unknown := sorted(found.keys() - set(_MANIFEST_KEYS)):
            raise PromptError(
                f"manifest {path} has the unknown key '{unknown[0]}'; known are {', '.join(_MANIFEST_KEYS)}"
            )
    if isinstance(found, dict):
        found = next((found[name] for name in _LISTS if name in found), None)
    if not isinstance(found, list) or not found:
        if in_manifest:
            raise PromptError(f"manifest {path} holds no list of items; write {{'items': [{{'id': ...}}, ...]}}")
        raise PromptError(f"prompt file {path} holds no list of entries; write [{{'prompt': ...}}, ...]")
    return found, in_manifest


def _content(path: Path) -> Any:
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise PromptError(f"prompt file {path} does not exist; pass an existing JSON file") from error
    except ValueError as error:
        raise PromptError(f"prompt file {error}") from error


def prompt_loader(items: Sequence[Item], batch_size: int) -> DataLoader[Item]:
    """Return a loader that gives lists of items, each item to one process."""
    return shared_loader(items, batch_size)
