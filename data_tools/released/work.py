"""The folder beside the output in which an import works, so that a run that was killed can be continued.

Everything in it appears under its name only when it is complete. It vanishes when the output is there.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.released.layout import Listing
from data_tools.verb.lists import Row
from idlora_pl.files import replacing

REJECTED_NAME = "rejected.jsonl"


@dataclass(frozen=True)
class Work:
    """Where an import keeps what it has done.

    Attributes:
        folder: all of it.
        output: what `result` becomes at the end.
    """

    folder: Path
    output: Path

    @property
    def scan(self) -> Path:
        """Folder of what was read, in blocks of items."""
        return self.folder / "scan"

    @property
    def shards(self) -> Path:
        """Folder of notes on finished shards."""
        return self.folder / "shards"

    @property
    def result(self) -> Path:
        """Folder of the shard sets."""
        return self.folder / "result"

    @property
    def spool(self) -> Path:
        """Folder of this process for files out of archives."""
        return self.folder / f"spool-{os.getpid()}"

    def remember(self, name: str, values: Mapping[str, Any]) -> None:
        """Keep values that must not change until the import is complete.

        Raises:
            ValueError: when an earlier run had other ones.
        """
        path = self.folder / name
        text = json.dumps(values, sort_keys=True)
        if path.is_file():
            earlier, now = json.loads(path.read_text()), json.loads(text)
            changed = sorted(key for key in earlier.keys() | now.keys() if earlier.get(key) != now.get(key))
            if changed:
                raise ValueError(
                    f"{self.output} was begun with {changed[0]} {earlier.get(changed[0])}, now it is "
                    f"{now.get(changed[0])}; go back to that, or remove {self.folder} to begin anew"
                )
        else:
            with replacing(path) as partial:
                partial.write_text(text)

    def forget(self, name: str) -> None:
        """Drop values that `remember` kept."""
        (self.folder / name).unlink(missing_ok=True)

    def finish(self) -> None:
        """Make the result the output and remove the rest, with what killed runs left half written."""
        for left in self.result.rglob(".*"):
            left.unlink()
        if self.output.is_dir():
            self.output.rmdir()
        os.replace(self.result, self.output)
        shutil.rmtree(self.folder)


@contextmanager
def opened_work(output: Path) -> Iterator[Work]:
    """Open or continue the work folder of an output; no second import can use it meanwhile.

    Raises:
        ValueError: when the output is there already, or another import is writing to it.
    """
    folder = output.with_name(f".{output.name}.importing")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        shutil.rmtree(folder, ignore_errors=True)  # a run that was killed after its last step
        raise ValueError(f"{output} already holds something; it is complete, or choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another import is writing to {output}; wait for it or choose another folder") from None
        for left in folder.glob("spool-*"):
            shutil.rmtree(left, ignore_errors=True)
        work = Work(folder, output)
        for part in (work.scan, work.shards):
            part.mkdir(exist_ok=True)
        try:
            yield work
        finally:
            shutil.rmtree(work.spool, ignore_errors=True)


def fingerprint(listing: Listing) -> str:
    """Return a checksum of the names, sizes and times of all input files."""
    paths = [path for files in listing.files.values() for path in files.values()] + listing.archives
    total = hashlib.sha256()
    for path in sorted(paths):
        state = path.stat() if path.exists() else None
        known = (state.st_size, state.st_mtime_ns) if state else ("missing",)
        total.update(repr((listing.shown(path), known)).encode())
    return total.hexdigest()


def sorted_rows(rows: Iterable[Row]) -> list[Row]:
    """Return rows of the report in an order that does not depend on how they were found."""
    return sorted(rows, key=lambda row: (row["key"], row["file"], row["reason"], row["detail"]))
