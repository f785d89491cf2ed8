"""Where shards are: on disk, behind a URL or at the end of a command; how their bytes are read.

webdataset opens what is not on disk: http and https through curl, hf through huggingface_hub and curl, gs through
gsutil, `pipe:` through the shell. s3 becomes `pipe:aws s3 cp URL -`, as webdataset's documentation has it.
"""

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import braceexpand
import webdataset as wds
from webdataset.gopen import Pipe

_PIECE = 1 << 20
_TAR_NAME = re.compile(r"[^/\s]+\.tar\b")
# what curl means by the exit statuses that a user meets
_CURL = {
    6: "the host is not known",
    7: "the host refuses the connection",
    18: "the connection broke",
    22: "the server answered with an error, such as 404",
    28: "it took too long",
    35: "no TLS connection",
    52: "the server sent nothing",
    56: "the connection broke",
}


class Stream(Protocol):
    """Bytes that are read from front to back."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, at most `size`; fewer only at the end."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a buffer with the next bytes and return how many there were; fewer only at the end."""

    def seek(self, offset: int, /) -> int:
        """Go forward to a byte, or to the end."""

    def tell(self) -> int:
        """Return the number of the next byte."""


class PipeStream:
    """The output of a program that webdataset started, as a stream that can only go forward.

    Raises:
        OSError: in `read`, `readinto` and `seek`, when the program failed before its output was complete.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe, self._at, self._ended = pipe, 0, False

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        found: bytes = self._pipe.stream.read(size)
        self._advance(len(found), size)
        return found

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer with the next bytes."""
        n_read: int = self._pipe.stream.readinto(buffer)
        self._advance(n_read, len(buffer))
        return n_read

    def seek(self, offset: int) -> int:
        """Read and forget what is before a byte."""
        while self._at < offset and not self._ended:
            self.read(min(_PIECE, offset - self._at))
        return self._at

    def tell(self) -> int:
        """Return the number of the next byte."""
        return self._at

    def close(self) -> None:
        """End the program, whatever it still had to say."""
        self._pipe.ignore_errors = True
        if not self._ended:
            self._pipe.proc.terminate()
        self._pipe.close()

    def _advance(self, n_read: int, wanted: int) -> None:
        """Count bytes; at the end, ask the program whether it is one."""
        self._at += n_read
        if wanted < 0 or n_read < wanted:
            self._ended = True
            status = self._pipe.proc.wait()
            if status:
                raise OSError(f"{self._program()} ended with status {status}{self._meaning(status)}")

    def _program(self) -> str:
        """Name the program and nothing else: its arguments may hold a token."""
        command = self._pipe.args[0][0]
        return str(command[0] if isinstance(command, list) else command.split()[0])

    def _meaning(self, status: int) -> str:
        return f", {_CURL[status]}" if self._program() == "curl" and status in _CURL else ""


@contextmanager
def opened(url: str) -> Iterator[Stream]:
    """Open a file, a URL or a command for reading from front to back.

    Raises:
        OSError: when it cannot be opened.
    """
    if not is_remote(url):
        # webdataset takes what stands before a colon for a protocol
        with open(url, "rb") as file:
            yield file
        return
    if url.startswith("s3://") and "s3" not in os.environ.get("USE_AIS_FOR", "").split(":"):
        url = f"pipe:{shlex.join(['aws', 's3', 'cp', url, '-'])}"
    found = wds.gopen(url)
    stream = PipeStream(found) if isinstance(found, Pipe) else found
    try:
        yield stream
    finally:
        stream.close()


def is_remote(shards: str) -> bool:
    """Say whether an address is opened by webdataset rather than looked up on disk."""
    return "://" in shards or shards.startswith("pipe:")


def without_secrets(url: str) -> str:
    """Return an address for a message: without a password and without what follows a question mark."""
    return re.sub(r"//[^/@\s]*@", "//", url).partition("?")[0]


def expanded(shards: str) -> tuple[str, list[str] | None]:
    """Split an address into the folder of a shard set and the addresses of its tars.

    A folder that exists is a folder, whatever its name; braces in the name of one that exists are part of the name.

    Returns:
        The folder and None, or the address of the index and those of the tars that a brace pattern names.

    Raises:
        ValueError: when a command names no tar.

    Example:
        >>> expanded("data/pairs-{0..1}.tar")
        ('data/index.json', ['data/pairs-0.tar', 'data/pairs-1.tar'])
        >>> expanded("pipe:ssh host cat /d/a.tar")
        ('pipe:ssh host cat /d/index.json', ['pipe:ssh host cat /d/a.tar'])
        >>> expanded("https://host/data/")
        ('https://host/data', None)
    """
    if not is_remote(shards):
        folder, name = os.path.split(shards)
        if os.path.isdir(shards) or ".tar" not in name:
            return shards.rstrip("/") or "/", None
        known = os.path.isdir(folder)
        urls = [os.path.join(folder, tar) for tar in braceexpand.braceexpand(name)] if known else _expanded(shards)
        return os.path.join(os.path.dirname(urls[0]), "index.json"), urls
    if not shards.startswith("pipe:") and "{" not in shards and not shards.partition("?")[0].endswith(".tar"):
        return shards.rstrip("/"), None
    urls = _expanded(shards)
    found = [*_TAR_NAME.finditer(urls[0])]
    if not found:
        raise ValueError(f"{without_secrets(shards)} names no tar; give 'pipe:... pairs-{{000000..000007}}.tar'")
    start, end = found[-1].span()
    return f"{urls[0][:start]}index.json{urls[0][end:]}", urls


def _expanded(pattern: str) -> list[str]:
    return list(braceexpand.braceexpand(pattern))


def tar_name(url: str) -> str:
    """Return the file name of a tar in an address or a command."""
    found = _TAR_NAME.findall(url)
    return found[-1] if found else Path(url).name
