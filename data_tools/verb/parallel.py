"""One function on many items in several processes; an item that kills its process is found and named."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Protocol, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class Crashed:
    """The result of an item whose process died."""


def n_workers_of(asked: int | None) -> int:
    """Return how many processes to use: as asked, else one for every core.

    Raises:
        ValueError: when fewer than one is asked for.
    """
    if asked is not None and asked < 1:
        raise ValueError(f"workers must be at least 1; got {asked}")
    return asked or available_cores()


def run_all(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    n_workers: int,
    done: Callable[[Item, Result | Crashed], None],
) -> None:
    """Run a function on all items.

    Args:
        function: of a module; it, the items and the results travel between our own processes.
        items: what to do.
        n_workers: processes; 1 does everything in this process.
        done: is told every result, in the order in which they are ready.

    Raises:
        ValueError, OSError: as the function raised it.
    """
    if n_workers <= 1 or len(items) <= 1:
        for item in items:
            done(item, function(item))
        return
    for item in _in_pool(function, items, min(n_workers, len(items)), done):
        # the pool does not say which of the items in work killed a process, so each gets a pool of its own
        if _in_pool(function, [item], 1, done):
            done(item, Crashed())


def _in_pool(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    n_workers: int,
    done: Callable[[Item, Result | Crashed], None],
) -> list[Item]:
    """Run items in one pool after the other until all are done; return those that were in work when a pool died."""
    left = list(items)
    suspects: list[Item] = []
    while left:
        context = get_context("forkserver")
        context.set_forkserver_preload([function.__module__])
        others = set(active_children())
        pool = ProcessPoolExecutor(n_workers, mp_context=context, initializer=start_worker)
        running: dict[Future[Result], Item] = {}
        try:
            while left or running:
                while left and len(running) < n_workers:
                    item = left.pop(0)
                    running[pool.submit(function, item)] = item
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    done(running.pop(future), result)
        except BrokenProcessPool:
            suspects += running.values()
            # one that was started while the pool broke is not told to end, and the pool would wait for it for ever
            for process in set(active_children()) - others:
                process.kill()
        finally:
            pool.shutdown(cancel_futures=True)
    return suspects


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
