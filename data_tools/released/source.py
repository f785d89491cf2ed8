"""Items out of plain folders and archives, each as soon as its four files are there.

Archives are read side by side, always the one that is furthest behind, so archives of one order join at once.
What waits for a partner lies in a work folder under a number; no name out of an archive becomes a path.
"""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_tools.released.archives import Archive, Member
from data_tools.released.layout import (
    FOLDERS,
    KINDS,
    METADATA_NAME,
    Item,
    Kind,
    Listing,
    Place,
    ReferenceFolder,
    placed,
    refuse_two_references,
)
from data_tools.verb.lists import Row


@dataclass
class _Found:
    """What is known of an item while its files come in."""

    files: dict[Kind, Path] = field(default_factory=dict)
    shown: dict[Kind, str] = field(default_factory=dict)
    copied: set[Kind] = field(default_factory=set)
    n_bytes: int = 0


@dataclass
class Source:
    """One pass over all items.

    Attributes:
        listing: plain files and archives.
        spool: folder for files out of archives, until their item was used.
        reference_folder: which of the two names of the references counts; None for the one that is there.
        refused: rows of the report for files that became part of no item.
        ignored: names that are no part of the layout.
        peak_bytes: the most that waited for a partner in `spool`.
        on_bytes: is told how many bytes of the archives were read.
    """

    listing: Listing
    spool: Path
    reference_folder: ReferenceFolder | None = None
    refused: list[Row] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    peak_bytes: int = 0
    on_bytes: Callable[[int], None] = lambda n_bytes: None
    _items: dict[str, _Found] = field(default_factory=dict)
    _waiting_bytes: int = 0
    _n_given: int = 0
    _n_copied: int = 0
    _folders: set[str] = field(default_factory=set)

    def items(self, skip: Container[str] = ()) -> Iterator[Item]:
        """Yield items: those of plain folders by name, then as archives complete them, incomplete ones last.

        The order depends on the input alone. Those in `skip` are counted in `Item.order` but neither copied nor
        given out.

        Raises:
            ValueError: when an archive is damaged, or references come under two names.
        """
        self.ignored += self.listing.ignored
        for name, file, used in self.listing.repeated:
            self._refuse(name, file, "duplicate", f"the item has {used} already, which is used; remove one of them")
        for name, files in self.listing.files.items():
            shown = {kind: self.listing.shown(path) for kind, path in files.items()}
            self._items[name] = _Found(dict(files), shown)
        for name in list(self._items):
            if len(self._items[name].shown) == len(KINDS):
                yield from self._give(name, skip)
        if self.listing.archives:
            yield from self._from_archives(skip)
        for name in sorted(self._items):
            if len(self._items[name].shown) < len(KINDS):
                yield from self._give(name, skip)

    def _from_archives(self, skip: Container[str]) -> Iterator[Item]:
        self.spool.mkdir(parents=True, exist_ok=True)
        self._folders = {name for name in FOLDERS if (self.listing.root / name).is_dir()}
        archives = [Archive(path) for path in self.listing.archives]
        try:
            while behind := [archive for archive in archives if not archive.done]:
                archive = min(behind, key=lambda found: found.n_read)
                member = archive.next()
                self.on_bytes(sum(each.bytes_read() for each in archives))
                if member is not None:
                    yield from self._take(member, archive, skip)
        finally:
            for archive in archives:
                archive.close()

    def _take(self, member: Member, archive: Archive, skip: Container[str]) -> Iterator[Item]:
        """Add one entry of an archive; yield the item that it completes."""
        shown = f"{archive.path.name}: {member.name}"
        place = placed(member.name, archive.path.name.split(".")[0])
        if member.fault is not None:
            self._refuse(place.item if place else "", shown, "unsafe_member", f"{shown} {member.fault}")
            return
        if place is None or not self._counts(place):
            if Path(member.name).name != METADATA_NAME:
                self.ignored.append(shown)
            return
        found = self._items.setdefault(place.item, _Found())
        if place.kind in found.shown:
            used = found.shown[place.kind]
            self._refuse(
                place.item, shown, "duplicate", f"the item has {used} already, which is used; remove one of them"
            )
            return
        found.shown[place.kind] = shown
        if place.item not in skip:
            self._copy(archive, member, found, place.kind)
        if len(found.shown) == len(KINDS):
            yield from self._give(place.item, skip)

    def _counts(self, place: Place) -> bool:
        """Say whether a folder counts; of the two names of the references only one does."""
        if place.kind == "reference" and self.reference_folder is not None:
            return place.folder == self.reference_folder
        self._folders.add(place.folder)
        refuse_two_references(self._folders, self.listing.root)
        return True

    def _copy(self, archive: Archive, member: Member, found: _Found, kind: Kind) -> None:
        path = self.spool / f"{self._n_copied:08d}.pt"
        self._n_copied += 1
        archive.copy(member, path)
        found.files[kind] = path
        found.copied.add(kind)
        found.n_bytes += member.n_bytes
        self._waiting_bytes += member.n_bytes
        self.peak_bytes = max(self.peak_bytes, self._waiting_bytes)

    def _give(self, name: str, skip: Container[str]) -> Iterator[Item]:
        found, order = self._items[name], self._n_given
        self._n_given += 1
        self._waiting_bytes -= found.n_bytes
        if name not in skip:
            yield Item(name, order, dict(found.files), dict(found.shown), frozenset(found.copied))
            found.files.clear()

    def _refuse(self, name: str, file: str, reason: str, detail: str) -> None:
        self.refused.append({"key": name, "file": file, "reason": reason, "detail": detail})
