"""From a folder of raw videos to shards with one command, which continues after any interruption.

cut_clips -> find_speakers -> clean_reference -> caption_clips -> pair_clips -> encode_clips -> write_shards
"""

import subprocess
import sys
from argparse import ArgumentError
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.table import Table

from data_tools import (
    caption_clips,
    clean_reference,
    cut_clips,
    encode_clips,
    find_speakers,
    pair_clips,
    write_shards,
)
from data_tools.pairing.consents import UNKNOWN, refuse_unknown, speakers_of
from data_tools.verb.command import sentence_of
from data_tools.verb.ledger import opened_ledger
from data_tools.verb.lists import Row, read_rows, write_rows
from idlora_pl.cli.command import flags_of, spelt_out
from idlora_pl.cli.replaced_lists import replaced_lists
from idlora_pl.data.shards import INDEX_NAME
from idlora_pl.files import replacing

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


CONSENT_STEPS = ("cut_clips", "find_speakers")
"""After these it is known whose consent is missing."""


def prepare_parser() -> ArgumentParser:
    """Return the command line: a section for every verb, whose keys are the verb's arguments."""
    parser = ArgumentParser(prog="prepare", description=prepare.__doc__, exit_on_error=False)
    parser.add_argument("raw", type=str, help="A video file, or a folder that is searched through.")
    parser.add_argument("--output", type=str, required=True, help="A new folder, or that of an interrupted run.")
    parser.add_argument("--config", action="config", help="A yaml file with these settings, a section for each verb.")
    said = "Use people of whom nobody knows whether they agreed; the index of the shards and adapters repeat it."
    parser.add_argument("--allow_unknown_consent", type=bool, default=False, help=said)
    parser.add_argument("--clean", type=bool, default=True, help="Take the noise out of reference voices.")
    for step in EVERY_STEP:
        parser.add_function_arguments(step.tool, step.verb, skip=set(step.given))
    return parser


def prepare(raw: str, output: str, sections: Sections, *, clean: bool, allow_unknown_consent: bool) -> None:
    """Run all tools on a folder of videos, one after the other; the same command continues an interrupted run.

    Writes OUTPUT/cut, speakers, voices, captions, pairs and samples, the shard set OUTPUT/shards (or one for each
    split in it), prepare.yaml with all settings, and rejected.jsonl with the step and the reason of all that was left
    out. Speakers are found unless cut_clips.speaker_from says whose name they have; captions are made when
    caption_clips has texts, words, endpoint or model, else pair_clips has the prompts.
    """
    agreed = sections["cut_clips"]
    if agreed["consent"] == UNKNOWN and agreed["consents"] is None and not allow_unknown_consent:
        raise ValueError(
            f"{raw}: nothing says how the people in it agreed; set cut_clips.consent or cut_clips.consents, or pass "
            "--allow_unknown_consent, which index and adapters repeat"
        )
    if sections["encode_clips"]["nodes"] != 1:
        raise ValueError("encode_clips.nodes must be 1 here; run data_tools.encode_clips by itself under SLURM")
    refuse_missing_needs(sections, clean=clean)
    folder, made = Path(output), Path(raw)
    rejected: list[Row] = []
    table = Table("step", "made", "left out", title=f"prepare: {folder}", title_justify="left")
    for step in STEPS:
        if not is_wanted(step, sections, clean=clean):
            continue
        if step.verb == "pair_clips":
            # what was packed before may be of other pairs; it is usable again when it was compared with those of now
            for index in (folder / SHARDS.writes).rglob(INDEX_NAME):
                index.unlink()
        made = run_step(step, made, folder, sections[step.verb])
        left_out = rows_of((folder / step.writes).with_name(step.rejected))
        rejected += [{"step": step.verb} | row for row in left_out]
        rows = rows_of(folder / step.writes)
        table.add_row(step.verb, str(len(rows)), str(len(left_out)))
        if step.verb in CONSENT_STEPS:
            refuse_unknown(speakers_of(rows), str(folder / step.writes), allowed=allow_unknown_consent)
    splits = splits_of(folder / "pairs" / "pairs.jsonl")
    _remove_other_sets(folder / SHARDS.writes, splits)
    for name in sorted(asked_splits(folder / "pairs").difference(filter(None, splits))):
        table.add_row(f"{SHARDS.verb} {name}", "0 tars, no pair is of this split", "0")
    for split in splits:
        target = folder / SHARDS.writes / (split or "")
        arguments = dict(sections[SHARDS.verb]) | {"allow_unknown_consent": allow_unknown_consent, "split": split}
        SHARDS.tool(str(made), str(target), **arguments)
        table.add_row(f"{SHARDS.verb} {split or ''}", f"{len(list(target.glob('*.tar')))} tars", "0")
    write_rows(folder / "rejected.jsonl", rejected)
    Console().print(table)


def _remove_other_sets(shards: Path, splits: Sequence[str | None]) -> None:
    """Remove shard sets of an earlier run whose split has no pair any more."""
    for notes in list(shards.rglob(".write_shards")):
        split = None if notes.parent == shards else notes.parent.name
        if split not in splits:
            for path in notes.parent.glob("*.tar"):
                path.unlink()


def _plain(chosen: Namespace) -> dict[str, Any]:
    """Return the settings as they are recorded."""
    return {name: value for name, value in chosen.clone().as_dict().items() if name != "config"}


def _that_matter(settings: dict[str, Any]) -> dict[str, Any]:
    """Return {"<verb>.<key>": value} of the settings that an interrupted run cannot change."""
    found: dict[str, Any] = {"raw": str(Path(settings["raw"]).resolve())}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= {f"{name}.{key}": inner for key, inner in value.items() if key not in NEVER_MATTERS}
        elif name not in ("raw", "output"):
            found[name] = value
    return found


def _was_not_used(folder: Path, name: str) -> bool:
    """Say of a setting whether no verb has finished with it, so that a mistake in it can be corrected.

    Consent may be told later; clips that it concerns are made again.
    """
    if name in ("allow_unknown_consent", "cut_clips.consent", "cut_clips.consents"):
        return True
    made = {step.verb: (folder / step.writes).exists() for step in EVERY_STEP}
    made["pair_clips"] = made["encode_clips"]
    return not made.get(name.split(".")[0], any(made.values()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run prepare from the command line."""
    parser = prepare_parser()
    flags = {"--allow_unknown_consent", "--clean"}
    flags |= {f"--{step.verb}.{flag[2:]}" for step in EVERY_STEP for flag in flags_of(step.tool)}
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        replaced = replaced_lists(given)
        chosen = parser.parse_args(spelt_out(given, flags))
        for said in replaced:
            print(f"prepare: {said}", file=sys.stderr)
        settings = _plain(chosen)
        for step in EVERY_STEP:
            if not isinstance(settings[step.verb], dict):
                raise ValueError(
                    f"{step.verb} is {settings[step.verb]} in the config; write its keys below it, or remove it"
                )
        folder = Path(settings["output"])
        if not Path(settings["raw"]).exists():
            raise ValueError(f"{settings['raw']} does not exist; give a video file or a folder of videos")
        may_change = partial(_was_not_used, folder)
        with opened_ledger(folder, "prepare", _that_matter(settings), may_change=may_change):
            with replacing(folder / "prepare.yaml") as unfinished:
                unfinished.write_text(parser.dump(chosen, skip_unset=False), encoding="utf-8")
            sections = {step.verb: settings[step.verb] for step in EVERY_STEP}
            prepare(
                settings["raw"],
                settings["output"],
                sections,
                clean=settings["clean"],
                allow_unknown_consent=settings["allow_unknown_consent"],
            )
    except ArgumentError as error:
        sys.exit(f"prepare: {' '.join(str(error).split())}; --help lists what there is")
    except (ValueError, OSError) as error:
        sys.exit(f"prepare: {sentence_of(error)}")


if __name__ == "__main__":
    main()
