"""One task for many items, in this process or in several, with a progress bar; results come as they are ready."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

import torch
from rich.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    task: Callable[[Item], Result], items: Sequence[Item], *, workers: int, label: str
) -> Iterator[tuple[Item, Result]]:
    """Run a task for every item.

    Args:
        task: a function or an object with `__call__` that can be pickled; every process makes its networks once.
        items: what to give it.
        workers: processes; 1 runs everything in this one.
        label: what the progress bar says.

    Raises:
        ValueError: when a worker process died, or `workers` is not positive.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1; got {workers}")
    with Progress() as progress:
        bar = progress.add_task(label, total=len(items))
        found = _here(task, items) if workers == 1 or len(items) < 2 else _spread(task, items, workers)
        for pair in found:
            progress.advance(bar)
            yield pair


def _here(task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
    for item in items:
        yield item, task(item)


def _spread(task: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[tuple[Item, Result]]:
    """Keep at most four items a process waiting, so that a long list needs no memory."""
    context = get_context("forkserver")
    context.set_forkserver_preload([getattr(task, "__module__", __name__)])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,))
    running: dict[Future[Result], Item] = {}
    waiting = iter(items)
    try:
        while True:
            while len(running) < 4 * workers and (item := next(waiting, None)) is not None:
                running[pool.submit(task, item)] = item
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    except BrokenProcessPool as error:
        raise ValueError(
            "a worker process died, perhaps for want of memory; run the command again with fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
