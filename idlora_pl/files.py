"""Files that appear whole or not at all; standard library only, so that every part may use it."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path


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
