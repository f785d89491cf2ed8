"""Jobs over several processes, of which only a few wait in memory at a time."""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Protocol

import torch


class Job(Protocol):
    """Something to do in another process; it travels between our own processes only."""

    def run(self) -> None:
        """Do it."""

    def __len__(self) -> int:
        """Return how many items it works on."""


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(jobs: Iterable[Job], n_workers: int, done: Callable[[Job], None]) -> None:
    """Run jobs; `jobs` is asked for another one only when fewer than `n_workers` + 1 are running or waiting.

    Args:
        jobs: what to do.
        n_workers: processes; 1 runs everything in this process.
        done: is told each job that is complete.

    Raises:
        ValueError: when a worker process died, or a job raised it.
    """
    if n_workers <= 1:
        for job in jobs:
            job.run()
            done(job)
        return
    context = get_context("forkserver")
    context.set_forkserver_preload(["data_tools.released.jobs"])
    running: dict[Future[None], Job] = {}
    pool = ProcessPoolExecutor(n_workers, mp_context=context, initializer=start_worker)
    try:
        for job in jobs:
            running[pool.submit(job.run)] = job
            if len(running) > n_workers:
                _collect(running, done)
        while running:
            _collect(running, done)
    except BrokenProcessPool as error:
        raise ValueError(
            "a worker process died, perhaps for want of memory; what is finished is kept: run the command again "
            "with fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _collect(running: dict[Future[None], Job], done: Callable[[Job], None]) -> None:
    """Wait until at least one job is complete."""
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        future.result()
        done(running.pop(future))


def start_worker() -> None:
    """Prepare a worker: one thread, and an end as soon as the process that it works for is gone."""
    torch.set_num_threads(1)
    parent = parent_process()
    assert parent is not None, "a worker has a parent"
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    """Wait for the end of the importing process, also a violent one; without this, workers would wait for ever."""
    parent.join()
    os._exit(1)
