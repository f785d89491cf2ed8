"""What a verb has finished, one small file an item, so that a run that was killed is continued with what is left."""

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.progress import Progress

from data_tools.verb.lists import Row
from data_tools.verb.parallel import Crashed, run_all
from idlora_pl.files import replacing

SETTINGS_NAME = "settings.json"
_NOTE = "of-"
"""Begins the name of every note, so that no item can take the name of the settings."""


@dataclass(frozen=True)
class Ledger:
    """The notes of one verb on one output folder.

    Attributes:
        folder: `.<verb>` inside the output.
    """

    folder: Path

    def find(self, name: str, fingerprint: str) -> list[Row] | None:
        """Return what was noted of an item; None when it was not, or of another state of its input."""
        try:
            note = json.loads((self.folder / f"{_NOTE}{name}.json").read_text())
            return list(note["rows"]) if note["input"] == fingerprint else None
        except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
            return None

    def note(self, name: str, fingerprint: str, rows: list[Row]) -> None:
        """Note that an item is finished, and the rows that it gave."""
        with replacing(self.folder / f"{_NOTE}{name}.json") as partial:
            partial.write_text(json.dumps({"input": fingerprint, "rows": rows}))


@contextmanager
def opened_ledger(
    output: Path,
    verb: str,
    settings: Mapping[str, Any],
    *,
    rank: int = 0,
    may_change: Callable[[str], bool] = lambda _: False,
) -> Iterator[Ledger]:
    """Open the notes of a verb; no second run can write to the output meanwhile.

    Args:
        output: the folder that the verb writes to.
        verb: its name.
        settings: what its results depend on.
        rank: of this process among those that write together; the first one locks the folder for all.
        may_change: says of a setting by its name whether nothing was made with it yet.

    Raises:
        ValueError: when the output was begun with other settings, or another run is writing to it.
    """
    folder = output / f".{verb}"
    folder.mkdir(parents=True, exist_ok=True)
    if rank:
        yield Ledger(folder)
        return
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another {verb} is writing to {output}; wait for it or choose another folder") from None
        _keep(folder / SETTINGS_NAME, json.loads(json.dumps(dict(settings))), output, may_change)
        remove_partials(output)
        yield Ledger(folder)


def _keep(path: Path, settings: dict[str, Any], output: Path, may_change: Callable[[str], bool]) -> None:
    """Compare settings with those of an earlier run, and write them."""
    earlier = json.loads(path.read_text()) if path.is_file() else settings
    changed = sorted(name for name in earlier | settings if earlier.get(name) != settings.get(name))
    if fixed := [name for name in changed if not may_change(name)]:
        raise ValueError(
            f"{output} was begun with {fixed[0]} {earlier.get(fixed[0])}, now it is "
            f"{settings.get(fixed[0])}; choose a new folder or the same settings"
        )
    if changed or not path.is_file():
        with replacing(path) as partial:
            partial.write_text(json.dumps(settings, indent=1) + "\n")


def remove_partials(folder: Path) -> None:
    """Remove files that a killed run left half written."""
    for left in folder.rglob(".*.partial*"):
        if left.is_file():
            left.unlink()


def state_of(path: Path) -> str:
    """Return size and time of a file, by which a change of it is noticed; "missing" when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return "missing"
    return f"{found.st_size} bytes at {found.st_mtime_ns}"


CRASHED: Row = {"reason": "crashed", "detail": "the process that worked on it died, as for a want of memory"}


class Keyed(Protocol):
    """A job about one clip."""

    @property
    def key(self) -> str:
        """Of the clip."""


Job = TypeVar("Job", bound=Keyed)


def run_noted(
    function: Callable[[Job], list[Row]],
    jobs: Sequence[Job],
    states: Mapping[str, str],
    ledger: Ledger,
    n_workers: int,
    *,
    label: str,
    keep: Callable[[Job, Row], bool] = lambda _job, _row: True,
    watch: Callable[[Row], None] = lambda _row: None,
) -> dict[str, Row]:
    """Return the row of every job by key.

    Args:
        function: of a module; gives one row for a job.
        jobs: what to do.
        states: of the input of each job, by key; when it changed the job is done again.
        ledger: of the verb.
        n_workers: processes.
        label: what the progress bar says.
        keep: says whether a row that was noted still holds.
        watch: is told every new row; what it raises ends the run.
    """
    found: dict[str, Row] = {}
    for job in jobs:
        noted = ledger.find(job.key, states[job.key])
        if noted is not None and keep(job, noted[0]):
            found[job.key] = noted[0]
    left = [job for job in jobs if job.key not in found]
    with Progress() as progress:
        bar = progress.add_task(label, total=len(jobs), completed=len(found))

        def done(job: Job, rows: list[Row] | Crashed) -> None:
            row = CRASHED if isinstance(rows, Crashed) else rows[0]
            found[job.key] = row
            ledger.note(job.key, states[job.key], [row])
            progress.advance(bar)
            watch(row)

        run_all(function, left, n_workers, done)
    return found
