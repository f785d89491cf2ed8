"""The two passes over all items: read and check everything, then write the shards that were planned from it.

They work in a folder beside the output, so that a run that was killed can be continued: both leave a note of each
finished part in it, and a part with a note is never done again. Everything in it appears under its name only when it is
complete. It vanishes when the output is there.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from data_tools.released.jobs import ScanJob, ShardJob
from data_tools.released.layout import Item, Listing, ReferenceFolder
from data_tools.released.plan import Candidate, SetPlan
from data_tools.released.reading import Facts
from data_tools.released.source import Source
from data_tools.verb.lists import Row, read_rows
from data_tools.verb.parallel import Job, run_jobs
from idlora_pl.data.shards import ShardFile, ShardIndex
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


_BLOCK = 32
_BLOCKS = "[0-9]*.jsonl"  # without what a killed run left half written, which starts with a dot
_SCANNED_NAME = "scan.json"


@dataclass(frozen=True)
class Input:
    """What is read.

    Attributes:
        listing: plain files and archives.
        reference_folder: which of the two names of the references counts.
        n_workers: processes.
    """

    listing: Listing
    reference_folder: ReferenceFolder | None
    n_workers: int

    @property
    def n_bytes(self) -> int:
        """Size of the archives."""
        return sum(path.stat().st_size for path in self.listing.archives)


@dataclass(frozen=True)
class Scanned:
    """What the first pass found.

    Attributes:
        candidates: items without fault.
        rejected: rows of the report for the other items, and for files that belong to none.
        n_items: items of both kinds.
        ignored: names that are no part of the layout.
        peak_bytes: the most that waited on disk for the other files of its item.
    """

    candidates: list[Candidate]
    rejected: list[Row]
    n_items: int
    ignored: list[str]
    peak_bytes: int


def scan(given: Input, work: Work) -> Scanned:
    """Read and check all items that no earlier run has.

    Raises:
        ValueError: when an archive is damaged, or a worker died.
    """
    noted = work.folder / _SCANNED_NAME
    if not noted.is_file():
        known = {note["key"] for path in work.scan.glob(_BLOCKS) for note in read_rows(path, ())}
        source = Source(given.listing, work.spool, given.reference_folder)
        total = None if given.listing.archives else len(given.listing.files) - len(known)
        with _progress(source, given.n_bytes, "checking", total) as done:
            run_jobs(_blocks(source.items(known), work.scan), given.n_workers, done)
        found = {"refused": source.refused, "ignored": source.ignored, "peak_bytes": source.peak_bytes}
        with replacing(noted) as partial:
            partial.write_text(json.dumps(found))
    found = json.loads(noted.read_text())
    notes = [note for path in sorted(work.scan.glob(_BLOCKS)) for note in read_rows(path, ())]
    candidates = [
        Candidate(note["key"], note["order"], note["shown"], Facts.from_json(note["facts"]))
        for note in notes
        if "facts" in note
    ]
    faults = [{name: note[name] for name in ("key", "file", "reason", "detail")} for note in notes if "reason" in note]
    return Scanned(candidates, found["refused"] + faults, len(notes), found["ignored"], found["peak_bytes"])


def _blocks(items: Iterator[Item], folder: Path) -> Iterator[ScanJob]:
    for number, block in groupby(items, key=lambda item: item.order // _BLOCK):
        yield ScanJob(tuple(block), folder / f"{number:08d}.jsonl")


@dataclass(frozen=True)
class PlannedShard:
    """One shard to be written.

    Attributes:
        path: the tar.
        notes: file that appears when it is complete.
        items: names in the order of the shard.
        index: shapes and precision.
    """

    path: Path
    notes: Path
    items: tuple[str, ...]
    index: ShardIndex


def shards_of(plan: SetPlan, index: ShardIndex, work: Work, samples_per_shard: int) -> list[PlannedShard]:
    """Divide a set into shards."""
    names = [item.name for item in plan.items]
    parts = [names[start : start + samples_per_shard] for start in range(0, len(names), samples_per_shard)]
    return [
        PlannedShard(
            work.result / plan.name / f"pairs-{number:06d}.tar",
            work.shards / f"{plan.name}-{number:06d}.json",
            tuple(part),
            index,
        )
        for number, part in enumerate(parts)
    ]


def write(shards: list[PlannedShard], metas: Mapping[str, Mapping[str, Any]], given: Input, work: Work) -> None:
    """Write all shards that no earlier run has.

    Raises:
        ValueError: when a file or an archive changed since the first pass, or a worker died.
    """
    missing = [shard for shard in shards if not shard.notes.is_file()]
    if missing:
        source = Source(given.listing, work.spool, given.reference_folder)
        with _progress(source, given.n_bytes, "writing", sum(len(shard.items) for shard in missing)) as done:
            run_jobs(_complete(missing, metas, source), given.n_workers, done)
    lost = next((shard for shard in shards if not shard.notes.is_file()), None)
    if lost is not None:
        raise ValueError(f"{lost.path.name} lacks items that were there before; restore {given.listing.root}")


def finished_shard(shard: PlannedShard) -> ShardFile:
    """Return what index.json says of a shard that was written."""
    values = json.loads(shard.notes.read_text())
    return ShardFile(**values | {"keys": tuple(values["keys"])})


class _AllBut:
    """Everything except some names."""

    def __init__(self, names: dict[str, PlannedShard]) -> None:
        self.names = names

    def __contains__(self, name: object) -> bool:
        return name not in self.names


def _complete(shards: list[PlannedShard], metas: Mapping[str, Mapping[str, Any]], source: Source) -> Iterator[ShardJob]:
    """Yield each shard as soon as all its items are there."""
    shard_of = {name: shard for shard in shards for name in shard.items}
    waiting: dict[Path, dict[str, Item]] = {shard.path: {} for shard in shards}
    for item in source.items(_AllBut(shard_of)):
        shard = shard_of[item.name]
        waiting[shard.path][item.name] = item
        if len(waiting[shard.path]) == len(shard.items):
            found = waiting.pop(shard.path)
            yield ShardJob(
                tuple((found[name], metas[name]) for name in shard.items), shard.path, shard.notes, shard.index
            )


@contextmanager
def _progress(source: Source, n_bytes: int, title: str, total: int | None) -> Iterator[Any]:
    """Show a bar for items, and one for archives; give what is to be told each finished job."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        items = progress.add_task(f"{title} items", total=total)
        if n_bytes:
            megabytes = progress.add_task("MB of archives", total=n_bytes // 10**6)
            source.on_bytes = lambda n_read: progress.update(megabytes, completed=n_read // 10**6)

        def done(job: Job) -> None:
            progress.advance(items, len(job))

        yield done
        task = progress.tasks[items]
        seconds = max(task.elapsed or 0.0, 1e-3)
        rate = f"{task.completed / seconds:.1f} a second"
        progress.console.print(f"{title}: {task.completed:.0f} items in {seconds:.1f} s, {rate}")
