"""The table of docs/resources.md from what was measured: `python -m benchmarks.report`.

What a row computes is counted on shapes (`benchmarks.flops`) and kept in `benchmarks/results/flops.json`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.flops import PEAK_TFLOPS, counted
from idlora_pl.files import read_json, replacing

RESULTS, PAGE = Path(__file__).parent / "results", Path("docs/resources.md")
BEGIN, END = "<!-- measured: python -m benchmarks.report -->", "<!-- end of measured -->"
_SIZE = ("frames", "height", "width")
_COLUMN = {"training_step": "training", "guided_step": "guided", "batched_passes": "forward"}


def main() -> None:
    """Write the measured tables into docs/resources.md."""
    folders = [(path.parent.name, _rows(path)) for path in sorted(RESULTS.glob("*/results.jsonl"))]
    flops = _counted_once([row for _, rows in folders for row in rows])
    parts = [part for name, rows in folders for part in table(name, rows, flops)]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    if not rest:
        sys.exit(f"{PAGE} has no line {BEGIN}; put it where the tables belong")
    after = rest.partition(END)[2]
    with replacing(PAGE) as partial:
        partial.write_text("\n".join([f"{before}{BEGIN}", "", *parts, f"{END}{after}"]), encoding="utf-8")
    print(f"wrote {PAGE}")


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _key(row: dict[str, Any]) -> str:
    return " ".join([row["preset"], *(str(row["setting"][name]) for name in _SIZE)])


def _counted_once(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return TFLOP of one clip by size; sizes that were never counted take a minute each."""
    path = RESULTS / "flops.json"
    known = read_json(path) if path.is_file() else {}
    for row in rows:
        if row["setting"]["kind"] in _COLUMN and _key(row) not in known:
            size = {name: row["setting"][name] for name in _SIZE}
            known[_key(row)] = {name: round(value, 3) for name, value in counted(row["preset"], **size).items()}
    with replacing(path) as partial:
        partial.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return known


def table(name: str, rows: Sequence[dict[str, Any]], flops: dict[str, dict[str, float]]) -> list[str]:
    """Return the lines of a markdown table of one folder of results.

    Args:
        name: Of the folder.
        rows: Its results; those that failed, and those without a time, are left out.
        flops: TFLOP of one clip by size, as `benchmarks.flops.counted` gives them.
    """
    first = rows[0]
    card = first["card"].removeprefix("NVIDIA ")
    lines = [
        f"### {first['card']}, {first['date'][:10]} (benchmarks/results/{name})",
        "",
        f"{first['preset']}, torch {first['torch']}, diffusers {first['diffusers']}. Peak is what torch allocated.",
        "",
        "| row | clips | s a step | clips a second | TFLOP/s | MFU | weights GiB | peak GiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        kind = row["setting"]["kind"]
        if kind not in _COLUMN or "failed" in row:
            continue
        clips = 1 if kind == "batched_passes" else row["setting"]["batch"]
        seconds = row["s_per_step"]
        rate = flops[_key(row)][_COLUMN[kind]] * row["setting"]["batch"] / seconds
        lines.append(
            f"| {row['name']} | {clips} | {seconds:.2f} | {clips / seconds:.2f} | {rate:.0f} | "
            f"{100 * rate / PEAK_TFLOPS[card]:.0f} % | {row['weights_gib']:.1f} | {row['peak_gib']:.1f} |"
        )
    return [*lines, ""]


if __name__ == "__main__":
    main()
