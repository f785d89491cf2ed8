"""Files out of .tar.zst and .tar archives, in one pass over them, without trusting a name in them."""

import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

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
