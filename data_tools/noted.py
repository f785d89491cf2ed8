"""Work through the items of a verb, but for those that its ledger knows; note each when it is done."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from rich.progress import Progress

from data_tools.ledger import Ledger
from data_tools.manifest import Row
from data_tools.parallel import Crashed, run_all

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
