"""Locks among processes; standard library only, so that every part may use it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
