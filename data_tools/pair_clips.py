"""Choose a voice reference and a prompt for every clip."""

import json
from pathlib import Path

from rich.console import Console

from data_tools.command import run
from data_tools.manifest import Row, located, read_rows, relative_to, write_rows
from idlora_pl.data.pairs import ClipRecord, Pair, PairRule
from idlora_pl.data.pairs import pair_clips as choose_references
from idlora_pl.prompt import split_prompt

REQUIRED = ("key", "path", "source", "speaker", "n_frames", "duration_s")


def read_prompts(path: Path) -> dict[str, str]:
    """Read {clip key or source video: prompt} from a JSON file."""
    try:
        prompts = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"prompt file {path} does not exist; write a JSON object of prompts") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"prompt file {path} is not JSON ({error}); correct it") from error
    if not isinstance(prompts, dict) or not all(isinstance(value, str) for value in prompts.values()):
        raise ValueError(f'prompt file {path} must be one object {{"<clip key or source>": "<prompt>"}}')
    return prompts


def prompt_of(row: Row, prompts: dict[str, str], default: str | None) -> str | None:
    """Return the prompt of a clip: from the file by key or source, else from its row, else the default.

    Raises:
        ValueError: when the prompt lacks a section.
    """
    text = prompts.get(row["key"], prompts.get(row["source"], row.get("prompt", default)))
    if text is not None:
        try:
            split_prompt(text)
        except ValueError as error:
            raise ValueError(f"clip {row['key']}: {error}") from error
    return text


def pair_row(pair: Pair, number: int, rows: dict[str, Row], clips: Path, pairs: Path) -> Row:
    """Describe one pair: `number` counts the references of one target."""
    target, reference = rows[pair.target], rows[pair.reference]
    return {
        "key": pair.target if number == 0 else f"{pair.target}-r{number}",
        "target": relative_to(pairs, located(clips, target["path"])),
        "reference": relative_to(pairs, located(clips, reference["path"])),
        "speaker": target["speaker"],
        "target_key": pair.target,
        "reference_key": pair.reference,
        "n_frames": target["n_frames"],
        "duration_s": target["duration_s"],
        "reference_duration_s": reference["duration_s"],
    }


def pair_clips(
    clips: str,
    output: str,
    rule: PairRule = "cross_video",
    prompts: str | None = None,
    prompt: str | None = None,
    per_target: int = 1,
    seed: int = 0,
) -> None:
    """Pair every clip with a voice reference of the same speaker.

    Writes OUTPUT, a list of pairs with target, reference, speaker and prompt, and beside it
    rejected_pairs.jsonl with a reason (no_speaker, no_reference, no_prompt) for every clip that was left out.

    Args:
        clips: The clips.jsonl of cut_clips.
        output: The list of pairs to write, such as pairs.jsonl.
        rule: Where a reference comes from: another clip of the same_video, another video (cross_video), or
            another video in another environment (cross_environment).
        prompts: JSON file {"<clip key or source video>": "[VISUAL]: ... [SPEECH]: ... [SOUNDS]: ..."}.
        prompt: The prompt of every clip that has none of its own.
        per_target: How many references a clip is paired with at most.
        seed: Of the choice.
    """
    source, target = Path(clips), Path(output)
    rows = {row["key"]: row for row in read_rows(source, REQUIRED)}
    given = read_prompts(Path(prompts)) if prompts is not None else {}
    named = [row for row in rows.values() if row["speaker"]]
    records = [ClipRecord(r["key"], r["speaker"], r["source"], r.get("environment", "")) for r in named]
    found = choose_references(records, rule, seed=seed, per_target=per_target)
    rejected = [{"key": row["key"], "reason": "no_speaker"} for row in rows.values() if not row["speaker"]]
    rejected += [{"key": key, "reason": "no_reference"} for key in found.unpaired]
    pairs: list[Row] = []
    taken: dict[str, int] = {}
    for pair in found.pairs:
        text = prompt_of(rows[pair.target], given, prompt)
        if text is None:
            rejected.append({"key": pair.target, "reason": "no_prompt"})
            continue
        number = taken.get(pair.target, 0)
        taken[pair.target] = number + 1
        pairs.append(pair_row(pair, number, rows, source, target) | {"prompt": text})
    write_rows(target.with_name("rejected_pairs.jsonl"), rejected)
    write_rows(target, pairs)
    Console().print(f"{len(pairs)} pairs of {len(rows)} clips in {target}, {len(rejected)} rejected")
    if not pairs:
        raise ValueError(f"no clip could be paired; {target.with_name('rejected_pairs.jsonl')} has the reasons")


if __name__ == "__main__":
    run(pair_clips)
