"""A folder of encoded samples, two files each, and the settings that made them."""

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from data_tools.verb.lists import Row, read_rows, write_rows
from idlora_pl.data.samples import META_FILE, TENSORS_FILE, PairSample, decode_sample, encode_sample
from idlora_pl.data.shards import is_key
from idlora_pl.files import replacing

SETTINGS_NAME = "settings.json"
LIST_NAME = "samples.jsonl"
"""The list of the samples, there once all pairs of a list are encoded or rejected."""


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings that made a folder of samples; {} when it has none."""
    path = folder / SETTINGS_NAME
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def keep_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a folder of samples, or compare them with those of an earlier run.

    Raises:
        ValueError: when the folder was made with other settings.
    """
    earlier = read_settings(folder)
    if earlier:
        changed = [name for name in settings if earlier.get(name) != settings[name]]
        if changed:
            raise ValueError(
                f"{folder} was encoded with {changed[0]} {earlier.get(changed[0])}, now it is "
                f"{settings[changed[0]]}; choose a new folder or the same settings"
            )
        return
    with replacing(folder / SETTINGS_NAME) as partial:
        partial.write_text(json.dumps(settings, indent=1) + "\n")


def write_sample(sample: PairSample, folder: Path) -> None:
    """Write the two files of a pair; the second one, meta.json, says that both are complete."""
    files = encode_sample(sample)
    for suffix in (TENSORS_FILE, META_FILE):
        with replacing(folder / f"{sample.key}.{suffix}") as partial:
            partial.write_bytes(files[suffix])


def sample_exists(folder: Path, key: str) -> bool:
    """Say whether a sample is complete."""
    return all((folder / f"{key}.{suffix}").is_file() for suffix in (TENSORS_FILE, META_FILE))


def remove_sample(folder: Path, key: str) -> None:
    """Remove what an earlier run wrote of a pair that is left out now."""
    for suffix in (META_FILE, TENSORS_FILE):
        (folder / f"{key}.{suffix}").unlink(missing_ok=True)


def begin_list(folder: Path, pairs: str, keys: Iterable[str]) -> None:
    """Note that samples of a list of pairs are being written; those of other lists stay.

    Raises:
        ValueError: when another list has one of the keys.
    """
    others = _others(folder, pairs)
    taken = {row["key"]: row["pairs"] for row in others if "key" in row}
    for key in keys:
        if key in taken:
            raise ValueError(f"'{key}' is already a sample of {taken[key]} in {folder}; choose another folder")
    write_rows(folder / LIST_NAME, [*others, {"unfinished": pairs}])


def finish_list(folder: Path, pairs: str, keys: Iterable[str]) -> None:
    """Write down the samples of a list of pairs, beside those of other lists."""
    write_rows(folder / LIST_NAME, [*_others(folder, pairs), *({"key": key, "pairs": pairs} for key in keys)])


def _others(folder: Path, pairs: str) -> list[Row]:
    path = folder / LIST_NAME
    rows = read_rows(path, ()) if path.is_file() and path.stat().st_size else []
    return [row for row in rows if pairs not in (row.get("pairs"), row.get("unfinished"))]


def find_samples(folder: Path) -> list[str]:
    """Return the keys of the samples of a folder, sorted.

    Raises:
        ValueError: when the folder is missing, unfinished or empty, or lacks a sample of its list.
    """
    listed = folder / LIST_NAME
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the one that data_tools.encode_clips wrote")
    if not listed.is_file():
        raise ValueError(f"{folder} has no {LIST_NAME}, so it is not finished; run data_tools.encode_clips again")
    rows = read_rows(listed, ())
    for row in rows:
        if "unfinished" in row:
            raise ValueError(f"{folder} is not finished with {row['unfinished']}; run data_tools.encode_clips again")
    keys = sorted(str(row.get("key")) for row in rows)
    for key in keys:
        if not is_key(key):
            raise ValueError(f"{listed} has the key {key!r}; use letters, digits, _ and - (1 to 80)")
        for suffix in (TENSORS_FILE, META_FILE):
            if not (folder / f"{key}.{suffix}").is_file():
                raise ValueError(f"{folder} lacks {key}.{suffix}; run data_tools.encode_clips again")
    twice = [key for key, following in pairwise(keys) if key == following]
    if twice:
        raise ValueError(f"{listed} has '{twice[0]}' twice; give every pair its own key")
    return keys


def read_sample(folder: Path, key: str) -> PairSample:
    """Read one sample."""
    files = {suffix: (folder / f"{key}.{suffix}").read_bytes() for suffix in (TENSORS_FILE, META_FILE)}
    return decode_sample(files, f"{folder}: clip {key}")
