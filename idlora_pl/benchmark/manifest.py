"""Make a manifest from a folder of clips: one folder an item, and a captions.json beside them.

captions.json                     [{"id", "speaker", "split", "visual", "speech", "sounds", ...}, ...]
<id>/reference.*  target.*        the voice, and the real clip that the prompt describes
<id>/<method>.*                   a clip of a method, such as ours.mp4
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from idlora_pl.benchmark.items import CAPTION, FORMAT, Item, PromptError, checked_id, read_prompts
from idlora_pl.files import files_below, read_json, replacing
from idlora_pl.media.reading import read_clip
from idlora_pl.media.writing import write_image

CAPTIONS = "captions.json"
CLIP_ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m4v", ".gif")
SOUND_ENDINGS = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac")
_ABOUT = ("id", "speaker", "split", "language", "source", "reference_source", "reference_speech", "seed", *CAPTION)


def write_manifest(folder: Path, output: Path, *, name: str = "", first_frames: bool = False) -> list[Item]:
    """Write the manifest of a folder; return its items as `read_prompts` gives them.

    Args:
        folder: Laid out as above.
        output: The manifest; paths in it are relative to its folder.
        name: Of the benchmark; the folder's where it is "".
        first_frames: Also write the first frame of each target as `first_frames/<id>.png` beside the manifest, which
            is what every method of the paper was given as the face.

    Raises:
        PromptError: The captions are missing or not as described, or an item has no folder or no reference.
        MediaError: A target's first frame cannot be read.
    """
    items = [_item(about, folder, output.parent) for about in _captions(folder / CAPTIONS)]
    output.parent.mkdir(parents=True, exist_ok=True)
    if first_frames:
        for item in items:
            item |= _first_frame(item, output.parent)
    return keep_manifest(items, output, name or folder.resolve().name)


def keep_manifest(items: Sequence[Mapping[str, Any]], output: Path, name: str) -> list[Item]:
    """Write items as a manifest once they can be read back; return them as `read_prompts` gives them.

    Args:
        items: With paths relative to the folder of `output`.
        output: The manifest.
        name: Of the benchmark.

    Raises:
        PromptError: An item is not as described.
    """
    content = {"format": FORMAT, "name": name, "items": list(items)}
    with replacing(output) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        try:
            return read_prompts(partial, use="scoring")
        except PromptError as error:
            raise PromptError(str(error).replace(str(partial), str(output))) from error


def _captions(path: Path) -> list[Mapping[str, Any]]:
    try:
        found = read_json(path)
    except FileNotFoundError as error:
        raise PromptError(f"{path} does not exist; write a list of {{'id': ..., 'speaker': ..., ...}}") from error
    except ValueError as error:
        raise PromptError(str(error)) from error
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) and "id" in one for one in found):
        raise PromptError(f"{path} is not a list of objects with an id; write [{{'id': ...}}, ...]")
    for about in found:
        if unknown := sorted(about.keys() - set(_ABOUT)):
            raise PromptError(
                f"{path}, item '{about['id']}' has the unknown key '{unknown[0]}'; known are {', '.join(_ABOUT)}"
            )
    return found


def _item(about: Mapping[str, Any], folder: Path, beside: Path) -> dict[str, Any]:
    """Return the item of a manifest in `beside`, its clips being in `folder`/<id>."""
    place = folder / checked_id(about["id"], str(folder / CAPTIONS))
    if not place.is_dir():
        raise PromptError(
            f"{folder / CAPTIONS} names '{about['id']}', but {place} is no folder; make it, or remove the item"
        )
    caption = {name: about[name] for name in CAPTION if name in about}
    item = {name: about[name] for name in _ABOUT if name in about and name not in CAPTION} | {"caption": caption}
    found = _media(place)
    paths = {stem: os.path.relpath(path, beside) for stem, path in found.items()}
    if "reference" not in paths:
        raise PromptError(f"{place} holds no reference; add reference.mp4 or reference.wav")
    item |= {stem: paths[stem] for stem in ("reference", "target") if stem in paths}
    item["clips"] = {
        stem: path for stem, path in sorted(paths.items())
        if not stem.startswith("reference") and stem != "target" and found[stem].suffix.lower() in CLIP_ENDINGS
    }  # fmt: skip
    return item


def _media(folder: Path) -> dict[str, Path]:
    """Return the media files of a folder by stem, a clip before a sound of the same name."""
    endings = [*SOUND_ENDINGS, *CLIP_ENDINGS]
    files = files_below(folder, endings, deep=False)
    return {path.stem: path for path in sorted(files, key=lambda path: (endings.index(path.suffix.lower()), path.name))}


def _first_frame(item: Mapping[str, Any], beside: Path) -> dict[str, str]:
    if "target" not in item:
        return {}
    path = Path("first_frames") / f"{item['id']}.png"
    write_image(read_clip(beside / item["target"], n_frames=1).frames[0], beside / path)
    return {"first_frame": str(path)}
