"""Files and folders that appear whole or not at all, texts that are read and written in one way, locks, and hashes.

Texts are UTF-8, with or without a byte order mark; lines of JSON Lines end at a line feed and nowhere else, so that a
line separator inside a text (U+2028, U+0085, a vertical tab) is a character like any other.
"""

import codecs
import fcntl
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import Any

# the longer mark first: that of UTF-32 begins with that of UTF-16
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
# in use on people's machines; of all that Python knows, a few letters look like those of the rarest
_USUAL = [
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1258"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949", "koi8_r", "mac_roman", "cp874"),
]


class TextError(ValueError):
    """A file holds no text in UTF-8; the message names it and what it looks like."""


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file, without its byte order mark and with its line ends as they are.

    Raises:
        TextError: The file is not UTF-8; the message says which encoding it looks like.
        OSError: The file cannot be read.
    """
    return decoded(Path(path).read_bytes(), str(path))


def decoded(held: bytes, where: str) -> str:
    r"""Return the text of bytes.

    Args:
        held: The bytes of a file.
        where: The file's name, for the error.

    Raises:
        TextError: They are not UTF-8.

    Example:
        >>> decoded(b"\xef\xbb\xbfcaf\xc3\xa9", "menu.txt")
        'café'
        >>> decoded("café".encode("utf-16"), "menu.txt")
        Traceback (most recent call last):
        idlora_pl.files.TextError: menu.txt is not UTF-8 text, it looks like UTF-16; save it as UTF-8
    """
    if not any(held.startswith(mark) for mark in _MARKS):
        try:
            # a NUL is UTF-8 and no text: it is how UTF-16 without a mark looks
            if "\0" not in (text := held.decode("utf-8-sig")):
                return text
        except UnicodeDecodeError:
            pass
    looks = _encoding_of(held)
    raise TextError(f"{where} is not UTF-8 text{f', it looks like {looks}' if looks else ''}; save it as UTF-8")


def _encoding_of(held: bytes) -> str:
    """Return the name of the encoding that bytes look like; "" for none."""
    marked = next((name for mark, name in _MARKS.items() if held.startswith(mark)), None)
    if marked:
        return marked
    sample = held[: 1 << 16]
    if b"\0" in sample:
        # of text in a western language, every second byte is NUL
        return "UTF-16" if sample.count(b"\0") > len(sample) / 4 else ""
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_isolation=_USUAL).best()
    if best is None:
        return ""
    # the commonest of those in which the text is the same
    name = "cp1252" if "cp1252" in best.could_be_from_charset else best.encoding
    return name.replace("_", "-")


def parsed_json(text: str, where: str) -> Any:
    """Return what a JSON text holds.

    Args:
        text: The text.
        where: Its file, for the error.

    Raises:
        ValueError: It is no JSON, or an object says a key twice, of which one would be lost.

    Example:
        >>> parsed_json('{"a": 1, "a": 2}', "prompts.json")
        Traceback (most recent call last):
        ValueError: prompts.json is not JSON (the key 'a' is there twice); correct it
    """
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except RecursionError as error:
        raise ValueError(f"{where} is not JSON that can be read (nested too deeply); correct it") from error
    except ValueError as error:
        raise ValueError(f"{where} is not JSON ({error}); correct it") from error


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held: dict[str, Any] = {}
    for key, value in pairs:
        if key in held:
            raise ValueError(f"the key {key!r} is there twice")
        held[key] = value
    return held


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return what a JSON file holds.

    Raises:
        ValueError: It is no UTF-8, no JSON, or an object says a key twice.
        OSError: The file cannot be read.
    """
    return parsed_json(read_text(path), str(path))


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """Return the lines of a file, which end at a line feed (or a carriage return and one) and nowhere else.

    Raises:
        TextError: The file is not UTF-8.
        OSError: The file cannot be read.
    """
    return split_lines(read_text(path))


def split_lines(text: str) -> list[str]:
    r"""Return the lines of a text, which end at a line feed (or a carriage return and one) and nowhere else.

    Example:
        >>> split_lines("one\u2028still\r\ntwo\n")
        ['one\u2028still', 'two']
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


def read_json_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number (from 1) and object of each line of a JSON Lines file; blank lines are passed over.

    Raises:
        ValueError: The file is not UTF-8, or a line is no JSON object; the message names the line.
        OSError: The file cannot be read.
    """
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        row = parsed_json(line, f"{path}, line {number}")
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number} is no JSON object; write one object a line")
        yield number, row


def json_line(row: dict[str, Any]) -> str:
    r"""Return an object as a line of JSON Lines, with its line feed.

    Letters stay readable; a line with half a surrogate pair, as names of files have that are no UTF-8, is escaped.

    Example:
        >>> json_line({"name": "Zoë"}), json_line({"name": "\udcff"})
        ('{"name": "Zoë"}\n', '{"name": "\\udcff"}\n')
    """
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(row)
    return line + "\n"


def write_json_lines(path: str | os.PathLike[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write a JSON Lines file; it appears under its name only when it is complete."""
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(map(json_line, rows))


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path beside `path` to write to, whose file takes the place of `path` when the block succeeds.

    Missing folders are made. When the block fails, what stood at `path` stays and the new file is removed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "new" / "rows.json") as partial:
        ...         _ = partial.write_text("[]")
        ...     (Path(folder) / "new" / "rows.json").read_text()
        '[]'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: str | os.PathLike[str], *, full: bool = False) -> Iterator[Path]:
    """Give an empty folder beside `folder` to write to, which takes the place of `folder` when the block succeeds.

    Missing folders above are made. When the block fails, what stood at `folder` stays and the new folder is removed;
    what a killed process has left goes when the folder is written again.

    Args:
        folder: Absent or empty, unless it is replaced in full; a link is followed.
        full: Whether `folder` may hold something, which goes when the new one stands in its place.

    Raises:
        ValueError: Another process is writing the folder.
        OSError: The folder holds something, and `full` is false.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as above:
        ...     with replacing_folder(Path(above) / "page") as partial:
        ...         _ = (partial / "index.html").write_text("")
        ...     [path.name for path in Path(above).rglob("*")]
        ['page', 'index.html']
    """
    folder = Path(folder).resolve()
    partial, earlier, lock = (folder.with_name(f".{folder.name}.{role}") for role in ("partial", "earlier", "lock"))
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(lock, wait=False))
        except BlockingIOError as error:
            raise ValueError(f"another process writes {folder} now; wait for it, or choose another folder") from error
        _clear(folder, partial, earlier)
        partial.mkdir()
        try:
            yield partial
            if full and folder.exists():
                folder.replace(earlier)
            partial.replace(folder)
        finally:
            _clear(folder, partial, earlier)


def _clear(folder: Path, partial: Path, earlier: Path) -> None:
    """Put the earlier folder back where no other has taken its place, and remove what is left of both."""
    if earlier.exists() and not folder.exists():
        earlier.replace(folder)
    for left in (partial, earlier):
        shutil.rmtree(left, ignore_errors=True)


_NOT_THE_USERS = frozenset({"@eadir", "#recycle", "#snapshot", "__macosx", "$recycle.bin", "system volume information"})
"""Folders that file servers, archives and Windows put between the files of a user, in lower case."""


def is_hidden(name: str) -> bool:
    """Say whether a file or folder of this name is not meant to be seen: `.git`, `._a.mp4`, `@eaDir`, `__MACOSX`.

    Example:
        >>> is_hidden(".trash"), is_hidden("@eaDir"), is_hidden("a.mp4")
        (True, True, False)
    """
    return name.startswith(".") or name.lower() in _NOT_THE_USERS


def files_below(folder: Path, endings: Collection[str] = (), *, deep: bool = True) -> list[Path]:
    """Return the files of a folder that are meant to be seen, sorted; hidden ones and those in hidden folders are none.

    Links to files are followed, links to folders are not.

    Args:
        folder: May itself be hidden.
        endings: Such as ".mp4", in lower case; none takes all files.
        deep: Whether to look into the folders below.
    """
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if deep and not is_hidden(name)]
        paths = (Path(parent, name) for name in names if not is_hidden(name))
        found += [path for path in paths if not endings or path.suffix.lower() in endings]
    return sorted(found)


@contextmanager
def locked(path: str | os.PathLike[str], *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path` alone: among threads, processes, and machines whose file system knows flock.

    The file is made and removed again. One that a killed process has left locks nobody out.

    Args:
        path: The lock file; missing folders are made.
        wait: Whether to wait for others.

    Raises:
        BlockingIOError: Somebody else holds it, and `wait` is false.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with open(path, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if not _is_still(path, file.fileno()):
                continue  # its holder has removed it while this one waited
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_still(path: Path, file: int) -> bool:
    """Say whether an open file is the one that stands under a path."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False


CACHE = Path("~/.cache/idlora/sha256.json").expanduser()
SMALL_BYTES = 1 << 24
"""Files up to this size are hashed every time: it takes less than looking them up is worth."""


def sha256_of(path: Path, cache: Path = CACHE) -> str:
    """Return the SHA-256 of a file in hexadecimal digits.

    That of a big file is remembered in `cache` by path, size and time of change.
    """
    about = path.stat()
    if about.st_size <= SMALL_BYTES:
        return _hashed(path)
    key = f"{path.resolve()}|{about.st_size}|{about.st_mtime_ns}"
    known = _read(cache)
    if key not in known:
        known = _read(cache) | {key: _hashed(path)}
        with replacing(cache) as partial:
            partial.write_text(json.dumps(known, indent=1) + "\n")
    return known[key]


def _hashed(path: Path) -> str:
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _read(cache: Path) -> dict[str, str]:
    """Return what is remembered; a damaged file is forgotten, which costs time and nothing else."""
    try:
        found = json.loads(cache.read_text())
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
