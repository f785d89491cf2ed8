"""The list of pairs: references and prompts chosen as pair_clips writes them, and the list read back and checked."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_tools.pairing.consents import UNKNOWN, weakest
from data_tools.pairing.pairs import ClipRecord, Pair, PairRule, pair_clips
from data_tools.verb.lists import Row, located, read_rows, relative_to
from idlora_pl.benchmark.prompt import split_prompt
from idlora_pl.data.shards import is_key
from idlora_pl.files import read_json

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
