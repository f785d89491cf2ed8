"""`metrics.csv` of a run: one file, however often the run was resumed."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger
from torch import Tensor

from idlora_pl.files import replacing

NAME, REPLACED = "metrics.csv", "replaced.csv"
Row = Mapping[str, Any]


class MetricsFile(Logger):
    """Append what is logged to `metrics.csv`, a line a step, at once; columns that are new widen the table.

    A run that goes on from a checkpoint makes the steps after it once more. The lines of these steps that an earlier
    process wrote move to `replaced.csv`, when the first new line is written; so no step has lines of two processes,
    and a run that is refused changes nothing.

    Args:
        run: Folder of the run.
        start: Step of the checkpoint that it goes on from.
        replaced: Folder for `replaced.csv`; None is that of the run.
    """

    def __init__(self, run: Path, *, start: int = 0, replaced: Path | None = None) -> None:
        super().__init__()
        self._run, self._start, self._replaced = run, start, replaced or run
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        """Lightning's name of a folder between `save_dir` and the version: none."""
        return ""

    @property
    def version(self) -> str:
        """Lightning's name of a folder of this run's own: none."""
        return ""

    @property
    def save_dir(self) -> str:
        """Folder of the run."""
        return str(self._run)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Do nothing: `config.yaml` tells all settings."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write one line."""
        row = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        row["step"] = 0 if step is None else step
        path = self._run / NAME
        if self._columns is None:
            self._columns = self._opened(path)
        if new := row.keys() - set(self._columns):
            rows = _read(path)
            self._columns = sorted(new.union(self._columns))
            _write(path, self._columns, [*rows, row])
            return
        with open(path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _opened(self, path: Path) -> list[str]:
        """Take away the lines that this run makes again, and return the columns of what is left."""
        rows = _read(path)
        columns = list(rows[0]) if rows else []
        kept: list[Row] = []
        again: list[Row] = []
        for row in rows:
            step = row.get("step", "")
            (kept if step.isdigit() and int(step) < self._start else again).append(row)
        if again:
            _write(self._replaced / REPLACED, columns, again)
        if rows:
            _write(path, columns, kept)
        return columns


def _read(path: Path) -> list[dict[str, str]]:
    """Return the lines of a file; a last one that was cut off has empty values."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, restval=""))


def _write(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
