"""Items out of plain folders and archives, each as soon as its four files are there.

Archives (.tar.zst and .tar) are read in one pass over them, without trusting a name in them, and side by side, always
the one that is furthest behind, so archives of one order join at once. What waits for a partner lies in a work folder
under a number.
"""

import sys
import tarfile
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

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

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["Archive", "Member", "zstd"]

_BLOCK = 512
_CHUNK = 1 << 20
_DAMAGE = (zstd.ZstdError, EOFError, OSError, tarfile.TarError)
_WINDOW_LOG = 31  # archives of `zstd --long` need a window of up to 2 GiB


@dataclass
class Member:
    """One entry of an archive, open while the archive stands at it.

    Attributes:
        name: as the archive has it.
        n_bytes: size.
        content: stream of a plain file, None for everything else.
        fault: why the entry is refused; None for a plain file with a safe name.
    """

    name: str
    n_bytes: int
    content: IO[bytes] | None
    fault: str | None


class _Watched:
    """A stream that keeps its last bytes, so that a tar without its end mark is noticed."""

    def __init__(self, stream: IO[bytes] | zstd.ZstdFile) -> None:
        self.stream, self.last = stream, b""

    def read(self, n_bytes: int = -1) -> bytes:
        """Read and remember the end."""
        part = self.stream.read(n_bytes)
        self.last = (self.last + part)[-_BLOCK:]
        return part


class Archive:
    """An archive that is read from its start to its end.

    Attributes:
        path: the file.
        n_read: entries given out so far.
        done: whether the end was reached.
    """

    def __init__(self, path: Path) -> None:
        """Open a file."""
        self.path, self.n_read, self.done = path, 0, False
        self._file = open(path, "rb")  # noqa: SIM115
        self._members = self._read()

    def bytes_read(self) -> int:
        """Return how far the file itself was read."""
        return self.path.stat().st_size if self.done else self._file.tell()

    def next(self) -> Member | None:
        """Return the next entry, None at the end.

        Raises:
            ValueError: when the archive is damaged or ends early.
        """
        member = next(self._members, None)
        self.n_read += member is not None
        self.done = member is None
        return member

    def copy(self, member: Member, path: Path) -> None:
        """Write the content of the entry at which the archive stands to a file.

        Raises:
            ValueError: when the archive is damaged or ends early.
        """
        with open(path, "wb") as file:
            while part := self._part(member):
                file.write(part)

    def _part(self, member: Member) -> bytes:
        try:
            return member.content.read(_CHUNK) if member.content is not None else b""
        except _DAMAGE as error:
            raise self._damaged(member.name, error) from error

    def _damaged(self, last: str, error: Exception) -> ValueError:
        return ValueError(f"{self.path} cannot be read past {last} ({error}); download it again")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self) -> Iterator[Member]:
        """Yield all entries; folders are left out."""
        last = "its start"
        try:
            plain = self.path.suffix != ".zst"
            options = {int(zstd.DecompressionParameter.window_log_max): _WINDOW_LOG}
            watched = _Watched(self._file if plain else zstd.ZstdFile(self._file, options=options))
            with tarfile.open(fileobj=watched, mode="r|", errors="backslashreplace") as tar:  # type: ignore[call-overload]
                for entry in tar:
                    last = entry.name
                    if not entry.isdir():
                        fault = _fault(entry)
                        yield Member(entry.name, entry.size, None if fault else tar.extractfile(entry), fault)
            while watched.read(_CHUNK):
                pass
            if any(watched.last) or len(watched.last) < _BLOCK:
                raise EOFError("it ends before its end mark")
        except _DAMAGE as error:
            raise self._damaged(last, error) from error


def _fault(entry: tarfile.TarInfo) -> str | None:
    """Say why an entry is refused."""
    path = PurePosixPath(entry.name.replace("\\", "/"))
    if entry.issym() or entry.islnk():
        return f"is a link to '{entry.linkname}', links are not followed; unpack the archive with tar and import that"
    if not entry.isreg():
        return "is neither a file nor a folder; pack the archive again without it"
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        return "has a name that leads out of the archive; pack the archive again with relative names"
    return None


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
