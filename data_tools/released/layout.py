"""Where the authors' layout keeps the four files of an item (spec 1.1); A/x is the item's name.

| file | holds |
|---|---|
| latents/A/x.pt | the target's video |
| audio_latents/A/x.pt | the target's sound |
| reference_audio_latents/A/x.pt | the voice; the folder is audio_latents_clean in the released archives |
| conditions/A/x.pt | the text; in old caches conditions/condition_x.pt belongs to latents/latent_x.pt |
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from idlora_pl.files import files_below, is_hidden

Kind = Literal["latents", "audio_latents", "reference", "conditions"]
ReferenceFolder = Literal["reference_audio_latents", "audio_latents_clean"]
KINDS: tuple[Kind, ...] = ("latents", "audio_latents", "reference", "conditions")
FOLDERS: Mapping[str, Kind] = {
    "latents": "latents",
    "audio_latents": "audio_latents",
    "reference_audio_latents": "reference",
    "audio_latents_clean": "reference",
    "conditions": "conditions",
}
METADATA_NAME = "metadata.jsonl"
_CHILDREN = (".precomputed", "precomputed")
_OLD_TEXT, _OLD_LATENT = "condition_", "latent_"


@dataclass(frozen=True)
class Place:
    """What a path says: the kind of file, the folder that says so, and the item it belongs to."""

    kind: Kind
    folder: str
    item: str


@dataclass(frozen=True)
class Item:
    """Files of one item that were found.

    Attributes:
        name: path without suffix, the same in all four folders.
        order: position in the order in which items were found.
        files: where to read each kind.
        shown: how each kind's file is called in reports.
        temporary: kinds whose file is a copy to be deleted after use.
    """

    name: str
    order: int
    files: Mapping[Kind, Path]
    shown: Mapping[Kind, str]
    temporary: frozenset[Kind] = frozenset()

    def discard(self) -> None:
        """Delete the copies."""
        for kind in self.temporary:
            self.files[kind].unlink(missing_ok=True)


@dataclass
class Listing:
    """Plain files of a folder in the authors' layout.

    Attributes:
        root: the folder that holds the four folders.
        files: {item: {kind: file}}, sorted by item.
        archives: archives beside the folders, sorted by name.
        repeated: (item, file, the file that is used) where an item has two files of one kind.
        ignored: what is no part of the layout.
    """

    root: Path
    files: dict[str, dict[Kind, Path]] = field(default_factory=dict)
    archives: list[Path] = field(default_factory=list)
    repeated: list[tuple[str, str, str]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def shown(self, path: Path) -> str:
        """Return a file's path as reports call it."""
        text = path.relative_to(self.root).as_posix()
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def placed(name: str, default_folder: str | None = None) -> Place | None:
    """Return what a relative path says, None when it is no part of the layout.

    Example:
        >>> placed("conditions/a/condition_3.pt")
        Place(kind='conditions', folder='conditions', item='a/latent_3')
        >>> placed("./precomputed/audio_latents_clean/b.pt").kind
        'reference'
    """
    path = PurePosixPath(name)
    known = [index for index, part in enumerate(path.parts[:-1]) if part in FOLDERS]
    if path.suffix != ".pt" or (not known and default_folder not in FOLDERS):
        return None
    folder = path.parts[known[0]] if known else str(default_folder)
    inside = PurePosixPath(*path.parts[known[0] + 1 if known else 0 :]).with_suffix("")
    if inside.name.startswith(_OLD_TEXT):
        inside = inside.with_name(_OLD_LATENT + inside.name.removeprefix(_OLD_TEXT))
    return Place(FOLDERS[folder], folder, inside.as_posix())


def find_root(folder: Path) -> Path:
    """Return the folder that holds the four folders or the archives: a `.precomputed` child goes first.

    Raises:
        ValueError: when there is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the one that holds latents, audio_latents and the others")
    return next((folder / child for child in _CHILDREN if (folder / child).is_dir()), folder)


def metadata_places(folder: Path, root: Path) -> list[Path]:
    """Return where a metadata.jsonl may be, for a folder that was given and the root that was found in it."""
    return [root, folder] + ([folder.parent] if folder.name in _CHILDREN else [])


def list_folder(folder: Path, reference_folder: ReferenceFolder | None) -> Listing:
    """List the plain files and the archives of a folder.

    Args:
        folder: in the authors' layout, or with a child that is.
        reference_folder: which of the two names of the references counts; None where only one is there.

    Raises:
        ValueError: when nothing of the layout is there, or references are there under both names.
    """
    found = Listing(find_root(folder))
    for entry in sorted(path for path in found.root.iterdir() if not is_hidden(path.name)):
        if entry.is_dir() and entry.name in FOLDERS:
            if FOLDERS[entry.name] == "reference" and reference_folder not in (None, entry.name):
                found.ignored.append(entry.name)
                continue
            _list_kind(entry, found)
        elif entry.name.endswith((".tar.zst", ".tar")):
            found.archives.append(entry)
        elif entry.name != METADATA_NAME:
            found.ignored.append(entry.name)
    if reference_folder is None:
        refuse_two_references({name for name in FOLDERS if (found.root / name).is_dir()}, found.root)
    if not found.files and not found.archives:
        raise ValueError(
            f"{found.root} holds no .pt file in latents, audio_latents, reference_audio_latents or conditions and no "
            ".tar.zst archive; give the folder that does"
        )
    found.files = dict(sorted(found.files.items()))
    return found


def refuse_two_references(folders: set[str], source: Path) -> None:
    """Raise ValueError when references are there under both names: they may be different recordings."""
    both = sorted(name for name in folders if FOLDERS[name] == "reference")
    if len(both) > 1:
        raise ValueError(f"{source} holds {' and '.join(both)}; choose one with --reference_folder")


def _list_kind(folder: Path, found: Listing) -> None:
    """Add the .pt files of one of the folders, in the order of their names."""
    for path in files_below(folder):
        place = placed(found.shown(path))
        if place is None:
            found.ignored.append(found.shown(path))
            continue
        files = found.files.setdefault(place.item, {})
        if place.kind in files:
            found.repeated.append((place.item, found.shown(path), found.shown(files[place.kind])))
        else:
            files[place.kind] = path
