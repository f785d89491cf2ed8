"""Choose references and prompts for clips: what pair_clips writes into its list."""

from dataclasses import dataclass
from pathlib import Path

from data_tools.consents import UNKNOWN, weakest
from data_tools.verb.lists import Row, located, relative_to
from idlora_pl.data.pairs import ClipRecord, Pair, PairRule, pair_clips
from idlora_pl.files import read_json
from idlora_pl.prompt import split_prompt

CARRIED = ("split", "environment", "language", "speaking_style", "environment_sounds")
"""Keys of a clip that its pairs repeat."""


def read_prompts(path: Path) -> dict[str, str]:
    """Read {clip key or source video: prompt} from a JSON file."""
    try:
        prompts = read_json(path)
    except FileNotFoundError as error:
        raise ValueError(f"prompt file {path} does not exist; write a JSON object of prompts") from error
    if not isinstance(prompts, dict) or not all(isinstance(value, str) for value in prompts.values()):
        raise ValueError(f'prompt file {path} must be one object {{"<clip key or source>": "<prompt>"}}')
    return prompts


def with_video_as_speaker(rows: dict[str, Row]) -> tuple[dict[str, Row], int]:
    """Take each video for one person where nobody is named, and say for how many clips: for the rule same_video."""
    unnamed = [key for key, row in rows.items() if not row["speaker"]]
    return rows | {key: rows[key] | {"speaker": f"video {rows[key]['source']}"} for key in unnamed}, len(unnamed)


def prompt_of(row: Row, prompts: dict[str, str], default: str | None) -> str | None:
    """Return the prompt of a clip: from the file by key or source, else from its row, else the default.

    Raises:
        ValueError: when the prompt lacks a section.
    """
    text = prompts.get(row["key"], prompts.get(row["source"], row.get("prompt", default)))
    return checked_prompt(text, f"clip {row['key']}") if text is not None else None


def checked_prompt(text: str, where: str) -> str:
    """Return a prompt; raise ValueError, which begins with `where`, when it lacks a section."""
    try:
        split_prompt(text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return text


def pair_row(pair: Pair, number: int, rows: dict[str, Row], clips: Path, pairs: Path) -> Row:
    """Describe one pair: `number` counts the references of one target."""
    target, reference = rows[pair.target], rows[pair.reference]
    return {
        "key": pair.target if number == 0 else f"{pair.target}-r{number}",
        "target": relative_to(pairs, located(clips, target["path"])),
        "reference": relative_to(pairs, located(clips, reference.get("voice") or reference["path"])),
        "speaker": target["speaker"],
        "consent": weakest(str(row.get("consent") or UNKNOWN) for row in (target, reference)),
        "target_key": pair.target,
        "reference_key": pair.reference,
        "source": target["source"],
        "reference_source": reference["source"],
        # what training needs to draw another voice (`data.references`)
        "target_source": target["source"],
        "target_environment": target.get("environment") or "",
        "reference_environment": reference.get("environment") or "",
        "n_frames": target["n_frames"],
        "duration_s": target["duration_s"],
        "reference_duration_s": reference["duration_s"],
    } | {name: target[name] for name in CARRIED if target.get(name)}


@dataclass(frozen=True)
class Choice:
    """How references and prompts are chosen.

    Attributes:
        rows: clips by key.
        clips: their list.
        target: the list of pairs.
        prompts: by key or source.
        prompt: of clips without one.
        per_target: references of one target at most.
        seed: of the choice.
    """

    rows: dict[str, Row]
    clips: Path
    target: Path
    prompts: dict[str, str]
    prompt: str | None
    per_target: int
    seed: int

    def pairs(self, rule: PairRule, split: str | None = None) -> tuple[list[Row], list[Row]]:
        """Return pairs by a rule, of one split or of all, and rejected clips."""
        rows = [row for row in self.rows.values() if split in (None, row.get("split"))]
        named = [row for row in rows if row["speaker"]]
        records = [record_of(row) for row in named]
        found = pair_clips(records, rule, seed=self.seed, per_target=self.per_target)
        rejected = [{"key": row["key"], "reason": "no_speaker"} for row in rows if not row["speaker"]]
        rejected += [{"key": key, "reason": "no_reference"} for key in found.unpaired]
        pairs: list[Row] = []
        taken: dict[str, int] = {}
        for pair in found.pairs:
            text = prompt_of(self.rows[pair.target], self.prompts, self.prompt)
            if text is None:
                rejected.append({"key": pair.target, "reason": "no_prompt"})
                continue
            number = taken.get(pair.target, 0)
            taken[pair.target] = number + 1
            pairs.append(pair_row(pair, number, self.rows, self.clips, self.target) | {"prompt": text})
        return pairs, rejected


def record_of(row: Row) -> ClipRecord:
    """Return what pairing and splitting look at."""
    return ClipRecord(row["key"], row["speaker"], row["source"], row.get("environment", ""))
