"""Time and memory of the full-size model on one card: `python -m benchmarks.full_size --out DIR --budget SECONDS`.

Weights are random and made on the card in the true shapes, so no file is needed beside this repository and the
installed packages. Rows stand in the order of their value; each result is written as soon as it is there, and a row
that has one is not measured again. Rows that share the base's weights share a process; when one dies, the rows after it
get a new one.

    python -m benchmarks.full_size --out /tmp/rehearsal --preset smoke --device cpu      # the rehearsal, minutes
    python -m benchmarks.full_size --out benchmarks/results/h200 --budget 480            # on a card
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from jsonargparse import auto_cli

Kind = Literal[
    "training_step", "guided_step", "batched_passes", "profile", "host_waits", "compiled_block", "same_with_swap"
]


@dataclass(frozen=True)
class Row:
    """One thing that is measured; its name and its fields stand in every result.

    Attributes:
        name: Unique, for the result's file and the tables.
        kind: What runs; see `benchmarks.measure`.
        batch: Clips at once.
        frames: Frames of the target, 8k+1 at 25 a second.
        height: Pixels.
        width: Pixels.
        weights: How the frozen base is stored.
        swap_blocks: Blocks whose weights lie in the host's memory.
        checkpointing: "all", "none" or the part of the blocks that is recomputed.
        steps: Training steps of "same_with_swap".
        mixed: Whether the step runs under autocast to bfloat16, as training does.
    """

    name: str
    kind: Kind
    batch: int = 1
    frames: int = 121
    height: int = 512
    width: int = 512
    weights: Literal["bf16", "int8", "fp8", "nf4"] = "bf16"
    swap_blocks: int = 0
    checkpointing: Literal["none", "all"] | float = "all"
    steps: int = 12
    mixed: bool = True


ROWS = (
    Row("train b1", "training_step"),
    Row("train b4", "training_step", batch=4),
    Row("guided step", "guided_step", mixed=False),
    Row("guided step, autocast", "guided_step"),
    Row("five passes as a batch", "batched_passes", batch=5),
    Row("where the time goes", "profile"),
    Row("host waits", "host_waits"),
    Row("train b1, half recomputed", "training_step", checkpointing=0.5),
    Row("train b1, nothing recomputed", "training_step", checkpointing="none"),
    Row("train b8", "training_step", batch=8),
    Row("train b1, 33 frames", "training_step", frames=33),
    Row("one block, compiled", "compiled_block"),
    Row("train b1 int8", "training_step", weights="int8"),
    Row("train b4 int8", "training_step", weights="int8", batch=4),
    Row("guided step int8", "guided_step", weights="int8", mixed=False),
    Row("train b1 nf4", "training_step", weights="nf4"),
    Row("guided step nf4", "guided_step", weights="nf4", mixed=False),
    Row("train b1, 24 blocks swapped", "training_step", swap_blocks=24),
    Row("train b1 nf4, 47 blocks swapped", "training_step", weights="nf4", swap_blocks=47),
    Row("train b1 int8, 29 blocks swapped", "training_step", weights="int8", swap_blocks=29),
    Row("train b1, 47 blocks swapped", "training_step", swap_blocks=47),
    Row("train b4, 47 blocks swapped", "training_step", swap_blocks=47, batch=4),
    Row("train b1 fp8", "training_step", weights="fp8"),
    Row("same with swap", "same_with_swap", weights="bf16"),
    Row("same with swap, nf4", "same_with_swap", weights="nf4"),
    Row("train b1, 768x512", "training_step", width=768),
    Row("train b1, 241 frames", "training_step", frames=241),
)


def main(
    out: Path,
    budget: float = 480.0,
    preset: str = "ltx2-19b",
    device: str = "cuda",
    only: list[str] | None = None,
    row_limit: float = 90.0,
    retry_failed: bool = False,
) -> None:
    """Measure the rows that have no result yet, until the time is up.

    Args:
        out: Folder; `results.jsonl` holds a line a row.
        budget: Seconds in all; no process outlives them.
        preset: Base model whose shapes are used; "smoke" rehearses.
        device: Where.
        only: Names of rows; the default is all.
        row_limit: Seconds after which a row that has not ended is given up.
        retry_failed: Measure rows again whose result is a failure.
    """
    end = time.monotonic() + budget
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.jsonl"
    rows = [row for row in ROWS if only is None or row.name in only]
    if only and (unknown := set(only) - {row.name for row in ROWS}):
        sys.exit(f"--only: no row {sorted(unknown)[0]!r}; rows are {', '.join(row.name for row in ROWS)}")
    if retry_failed and results.is_file():
        kept = [line for line in results.read_text().splitlines() if "failed" not in json.loads(line)]
        results.write_text("".join(line + "\n" for line in kept))
    todo = [row for row in rows if row.name not in _measured(results)]
    for _, group in groupby(todo, key=lambda row: (row.weights, row.swap_blocks, row.kind == "same_with_swap")):
        left = list(group)
        while left and time.monotonic() < end:
            _process(left, results, preset, device, end, row_limit)
            done = _measured(results)
            left = [row for row in left if row.name not in done]
    missing = [row.name for row in rows if row.name not in _measured(results)]
    print(
        f"{len(rows) - len(missing)} of {len(rows)} rows are in {results}"
        + "".join(f"\n  not yet: {m}" for m in missing)
    )


def _measured(results: Path) -> set[str]:
    if not results.is_file():
        return set()
    return {json.loads(line)["name"] for line in results.read_text().splitlines() if line.endswith("}")}


def _process(rows: Sequence[Row], results: Path, preset: str, device: str, end: float, row_limit: float) -> None:
    """Measure rows in a process of their own; a row that it dies of, or hangs in, gets a result that says so."""
    from benchmarks.measure import measure

    work = {"rows": list(rows), "preset": preset, "device": device, "results": results}
    before = len(_measured(results))
    # forked, the imports are paid for once; but they look for a card, after which no forked process can use it
    context = multiprocessing.get_context("fork") if device == "cpu" else multiprocessing.get_context("spawn")
    child = context.Process(target=measure, kwargs=work)
    child.start()
    reached, since = before, time.monotonic()
    while child.is_alive():
        child.join(0.5)
        now, done = time.monotonic(), len(_measured(results))
        if done > reached:
            reached, since = done, now
        # the first row of a process pays for the model
        limit = row_limit + (60.0 if reached == before else 0.0)
        if child.is_alive() and (now > end or now - since > limit):
            child.kill()
            child.join()
            if now <= end:
                _fail(results, rows[reached - before], f"did not end in {limit:.0f} s")
            return
    if child.exitcode and reached - before < len(rows):
        _fail(results, rows[reached - before], f"the process ended with status {child.exitcode}")


def _fail(results: Path, row: Row, reason: str) -> None:
    append(results, {"name": row.name, "failed": reason, "setting": asdict(row)})


def append(results: Path, result: dict[str, Any]) -> None:
    """Add a line to the results and see that it is on the disk."""
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
        file.flush()


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
