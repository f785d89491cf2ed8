"""SHA-256 of weights, computed once a file: gigabytes take a while."""

import json
import os
from hashlib import file_digest
from pathlib import Path

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
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_name(f".{cache.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps(known, indent=1) + "\n")
        os.replace(partial, cache)
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
