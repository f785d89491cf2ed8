"""The verbs of prepare in their order, where each of them reads and writes, and what each of them is given."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from data_tools import (
    caption_clips,
    clean_reference,
    cut_clips,
    encode_clips,
    find_speakers,
    pair_clips,
    write_shards,
)
from data_tools.verb.lists import Row, read_rows

Sections = Mapping[str, Mapping[str, Any]]

NEVER_MATTERS = frozenset({"workers", "readers", "accelerator", "devices", "nodes", "strategy", "timeout_s", "retries"})
"""Arguments that may differ from those of an interrupted run, because results do not depend on them."""


@dataclass(frozen=True)
class Step:
    """One verb of the chain.

    Attributes:
        module: with a function of its name, and `check_needs`, which takes the section and raises what the function
            would raise of its settings and of files beside the clips.
        given: its arguments that prepare says; the others are the keys of its section.
        writes: the folder of its output inside that of prepare, and the list that the next verb reads.
        rejected: the list of what it leaves out.
    """

    module: ModuleType
    given: tuple[str, ...]
    writes: str
    rejected: str

    @property
    def verb(self) -> str:
        """Its name, which is that of its section."""
        return self.module.__name__.rpartition(".")[2]

    @property
    def tool(self) -> Callable[..., None]:
        """Its function."""
        function: Callable[..., None] = getattr(self.module, self.verb)
        return function


STEPS = (
    Step(cut_clips, ("source", "output"), "cut/clips.jsonl", "rejected.jsonl"),
    Step(find_speakers, ("clips", "output"), "speakers/clips.jsonl", "rejected.jsonl"),
    Step(clean_reference, ("clips", "output"), "voices/clips.jsonl", "rejected.jsonl"),
    Step(caption_clips, ("clips", "output"), "captions/clips.jsonl", "rejected.jsonl"),
    Step(pair_clips, ("clips", "output"), "pairs/pairs.jsonl", "rejected_pairs.jsonl"),
    Step(encode_clips, ("pairs", "output"), "samples/samples.jsonl", "rejected.jsonl"),
)
SHARDS = Step(
    write_shards,
    ("samples", "output", "split", "consent", "allow_unknown_consent"),
    "shards",
    "rejected.jsonl",
)
EVERY_STEP = (*STEPS, SHARDS)


def is_wanted(step: Step, sections: Sections, *, clean: bool) -> bool:
    """Say whether a step is needed with these settings."""
    if step.module is find_speakers:
        return bool(sections["cut_clips"]["speaker_from"] == "none")
    if step.module is clean_reference:
        return clean
    if step.module is caption_clips:
        return any(sections["caption_clips"][name] is not None for name in ("texts", "words", "endpoint", "model"))
    return True


def refuse_missing_needs(sections: Sections, *, clean: bool) -> None:
    """Make sure that every step has what it needs beside the clips, before the first one begins.

    Raises:
        ValueError: a setting, a file, weights or a library is missing or wrong; the message begins with the verb.
    """
    steps = [step for step in EVERY_STEP if is_wanted(step, sections, clean=clean)]
    for step in steps:
        try:
            step.module.check_needs(**sections[step.verb])
        except (ValueError, OSError) as error:
            raise ValueError(f"{step.verb}: {error}") from error
    pairs, is_captioned = sections["pair_clips"], any(step.module is caption_clips for step in steps)
    if not is_captioned and pairs["prompts"] is None and pairs["prompt"] is None:
        raise ValueError(
            "nothing gives the clips their prompts; set caption_clips.texts, words, endpoint or model, or "
            "pair_clips.prompt or prompts"
        )


def run_step(step: Step, source: Path, folder: Path, arguments: Mapping[str, Any]) -> Path:
    """Run one verb; return what the next one reads."""
    listed = folder / step.writes
    target = listed if step.module is pair_clips else listed.parent
    places = [str(source), str(target)]
    if step.module is encode_clips and arguments["devices"] != 1:
        _run_alone(step.verb, places, arguments)
    else:
        step.tool(*places, **arguments)
    return listed.parent if step.module is encode_clips else listed


def _run_alone(verb: str, places: list[str], arguments: Mapping[str, Any]) -> None:
    """Run a verb as a command of its own, which Lightning starts once more for every device."""
    options = [f"--{name}={'null' if value is None else value}" for name, value in arguments.items()]
    ended = subprocess.run([sys.executable, "-m", f"data_tools.{verb}", *places, *options], check=False)
    if ended.returncode:
        raise ValueError(f"{verb} ended with status {ended.returncode}; what it said stands above")


def rows_of(path: Path) -> list[Row]:
    """Read a list, which may be empty or missing."""
    return read_rows(path, ()) if path.is_file() and path.stat().st_size else []


def splits_of(pairs: Path) -> list[str | None]:
    """Return the splits of a list of pairs; [None] when it is not split."""
    return sorted({row.get("split") for row in read_rows(pairs, ("key",))}, key=str)


def asked_splits(folder: Path) -> set[str]:
    """Return the splits that pair_clips wrote a list for, with or without a pair in it."""
    return {path.stem.removeprefix("pairs-") for path in folder.glob("pairs-*.jsonl")}
