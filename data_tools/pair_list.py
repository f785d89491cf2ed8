"""The list of pairs, checked: whose rows can be encoded, and how long their targets are."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data_tools.verb.lists import Row, read_rows
from idlora_pl.data.shards import is_key

REQUIRED = ("key", "target", "reference", "prompt", "n_frames")
UNUSABLE = ("unsafe_key", "duplicate_key", "bad_row")
"""Reasons of rows that are not looked at; a duplicate has the key of a sample that is there."""


def usable_rows(pairs: Path) -> tuple[list[Row], list[Row]]:
    """Read a list of pairs; return those that can be encoded, and the rejected: unsafe_key, duplicate_key, bad_row."""
    kept: dict[str, Row] = {}
    rejected = []
    for row in read_rows(pairs, REQUIRED):
        key, n_frames = row["key"], row["n_frames"]
        texts = ("target", "reference", "prompt")
        wrong = [name for name in texts if not isinstance(row[name], str) or "\0" in row[name]]
        if not isinstance(key, str) or not is_key(key):
            reason = "unsafe_key", f"{key!r} cannot name a sample; use letters, digits, _ and - (1 to 80)"
        elif key in kept:
            reason = "duplicate_key", f"'{key}' is there twice, the first is used"
        elif wrong:
            reason = "bad_row", f"{wrong[0]} is {row[wrong[0]]!r}, not text"
        elif not isinstance(n_frames, int) or n_frames < 1:
            reason = "bad_row", f"n_frames is {n_frames!r}, not a count of frames"
        else:
            kept[key] = row
            continue
        rejected.append({"key": str(key), "reason": reason[0], "detail": reason[1]})
    if not kept:
        raise ValueError(f"{pairs}: no pair can be used ({rejected[0]['key']}: {rejected[0]['detail']})")
    return list(kept.values()), rejected


def common_length(rows: Sequence[Row], duration_s: float | None, frame_rate_fps: float) -> int:
    """Return the frames of every target: those of `duration_s`, else those that all clips have.

    Raises:
        ValueError: when clips differ and no duration is given, or the duration is not 8k + 1 frames.
    """
    lengths = Counter(int(row["n_frames"]) for row in rows)
    if duration_s is None and len(lengths) > 1:
        found = ", ".join(f"{count} of {n_frames}" for n_frames, count in sorted(lengths.items()))
        shortest = min(lengths) / frame_rate_fps
        raise ValueError(
            f"the list mixes clips of different frame counts ({found}); --duration {shortest:g} uses all, "
            "a longer one rejects those that are too short"
        )
    n_frames = max(lengths) if duration_s is None else round(duration_s * frame_rate_fps)
    if n_frames < 9 or n_frames % 8 != 1:
        nearest = max(9, round((n_frames - 1) / 8) * 8 + 1)
        raise ValueError(
            f"{n_frames} frames at {frame_rate_fps:g} fps are not 8k + 1; use --duration "
            f"{nearest / frame_rate_fps:g} ({nearest} frames)"
        )
    return n_frames
