"""Score a whole row: here, in several processes, or on all ranks of a Lightning trainer; the scores are the same."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from idlora_pl.evaluation.plan import Folder, Work, with_versions
from idlora_pl.evaluation.rows import FAILED, score_source
from idlora_pl.results.row import ScoreRow
from idlora_pl.results.scores_file import append_scores
from idlora_pl.scorers.loading import Scorer, load_scorers
from idlora_pl.scorers.weights import WEIGHTS


@dataclass(frozen=True)
class ScorerSet:
    """Scorers as something that other processes can build.

    Attributes:
        names: As in `load_scorers`.
        weights: Folder of weights.
        verified: File of proofs; None takes the one of the user.
        inputs: Folder of anchor inputs, for scorers that have not proved themselves yet.
    """

    names: tuple[str, ...]
    weights: Path = WEIGHTS
    verified: Path | None = None
    inputs: Path | None = None

    def load(self, device: str = "cpu") -> tuple[Scorer, ...]:
        """Build them, to score on a device."""
        found = load_scorers(self.names, self.weights, self.verified, inputs=self.inputs, device=device)
        return with_versions(found)


@dataclass(frozen=True)
class Outcome:
    """What scoring a row came to.

    Attributes:
        n_clips: Clips that were scored now.
        n_before: Clips that had all scores before.
        failed: One line for each score that a scorer failed at, with its error.
        reasons: How many scores are missing for each reason.
    """

    n_clips: int
    n_before: int
    failed: tuple[str, ...]
    reasons: dict[str, int]


def score_folder(folder: Folder, chosen: ScorerSet, *, processes: int = 1) -> Outcome:
    """Score what is left of a row and append it to its scores, with a progress bar.

    Args:
        folder: The row.
        chosen: The scorers. All are built before anything is scored, so that one without weights refuses first.
        processes: How many score at once. Each holds all networks in memory, and computes with its share of the cores.

    Raises:
        Unavailable: A scorer lacks weights or a library.
        ValueError: As in `Folder.left`; or another process scores the row, or one of these died.
    """
    scorers = chosen.load()
    rows: list[ScoreRow] = []
    with folder.claimed():
        folder.make_room(scorers)
        works = folder.left(scorers)
        made = _in_processes(folder, chosen, works, processes) if processes > 1 else _here(folder, scorers, works)
        with _progress() as progress:
            task = progress.add_task(f"scoring {folder.row}", total=len(works))
            for row in made:
                append_scores(folder.scores, [row])
                rows.append(row)
                progress.advance(task)
    return outcome(rows, len(folder.items) - len(works))


def outcome(rows: Sequence[ScoreRow], n_before: int) -> Outcome:
    """Count what rows came to."""
    reasons: dict[str, int] = {}
    failed = []
    for row in rows:
        for score, reason in row.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + 1
            if reason == FAILED and (facts := row.facts(score)) is not None:
                failed.append(f"{row.key}: {score}: {facts.details.get('error', '')}")
    return Outcome(len(rows), n_before, tuple(failed), dict(sorted(reasons.items())))


def score_work(folder: Folder, scorers: Sequence[Scorer], work: Work) -> ScoreRow:
    """Score one clip with the scorers that it waits for."""
    waiting = [scorer for scorer in scorers if scorer.name in work.scorers]
    source = replace(work.source, notes={**work.source.notes, **folder.origin})
    return score_source(waiting, work.item, source, folder.row, folder.beside)


def _here(folder: Folder, scorers: Sequence[Scorer], works: Sequence[Work]) -> Iterator[ScoreRow]:
    return (score_work(folder, scorers, work) for work in works)


_SCORERS: tuple[Scorer, ...] = ()


def _start(chosen: ScorerSet, n_threads: int) -> None:
    """Build the scorers of a process, once."""
    global _SCORERS
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(n_threads)
    _SCORERS = chosen.load()


def _end_with_parent() -> None:
    """End this process when the one that started it is gone; a killed one cannot tell its processes to."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _score(folder: Folder, work: Work) -> ScoreRow:
    return score_work(folder, _SCORERS, work)


def _in_processes(folder: Folder, chosen: ScorerSet, works: Sequence[Work], n: int) -> Iterator[ScoreRow]:
    n_threads = max(1, (os.cpu_count() or 1) // n)
    bare = Folder((), {}, folder.row, folder.scores, origin=folder.origin)
    pool = ProcessPoolExecutor(n, get_context("spawn"), _start, (chosen, n_threads))
    try:
        futures = [pool.submit(_score, bare, work) for work in works]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise ValueError(
            "a scoring process died, most likely for want of memory; run the command again with fewer --processes, "
            "what is scored is kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        yield progress
