"""Jobs run in several processes, few at a time, and their ends are noticed, also violent ones."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from data_tools.verb.parallel import run_jobs


@dataclass(frozen=True)
class Touch:
    """Make a file; "kill" kills the process and "fail" fails."""

    path: Path

    def __len__(self) -> int:
        return 1

    def run(self) -> None:
        if self.path.name == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.path.name == "fail":
            raise ValueError("it failed")
        self.path.write_text(str(os.getpid()))


@pytest.mark.parametrize("n_workers", [1, 2])
def test_all_jobs_are_done_and_only_a_few_wait(tmp_path, n_workers):
    finished, ahead = [], []

    def jobs():
        for k in range(12):
            ahead.append(k - len(finished))
            yield Touch(tmp_path / f"{k:02d}")

    run_jobs(jobs(), n_workers, finished.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{k:02d}" for k in range(12)]
    assert sorted(job.path.name for job in finished) == [f"{k:02d}" for k in range(12)]
    assert max(ahead) <= n_workers
    here = str(os.getpid())
    assert all((path.read_text() == here) == (n_workers == 1) for path in tmp_path.iterdir())


@pytest.mark.parametrize("n_workers", [1, 2])
def test_an_error_of_a_job_ends_all(tmp_path, n_workers):
    with pytest.raises(ValueError, match="it failed"):
        run_jobs([Touch(tmp_path / "a"), Touch(tmp_path / "fail")], n_workers, lambda job: None)


def test_a_worker_that_is_killed_ends_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="a worker process died, perhaps for want of memory; what is finished is kept"):
        run_jobs([Touch(tmp_path / "kill")] * 3, 2, lambda job: None)
