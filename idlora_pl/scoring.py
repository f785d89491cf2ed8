"""Score clips against the entries of a prompt file: the same code for callbacks, for folders and for real clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from idlora_pl.media import Clip, MediaError, read_audio, read_clip
from idlora_pl.metrics.clip_mean import Expected
from idlora_pl.metrics.suite import ClipScorer
from idlora_pl.prompt import split_prompt
from idlora_pl.report import ScoreRow

Entry = Mapping[str, Any]


def expected_of(entry: Entry) -> Expected:
    """Read what a clip should sound like: the voice of `compare_path` (else of the reference), words, environment."""
    path = entry["compare_path"] or entry["reference_path"]
    voice, rate = (None, None) if path is None else read_audio(path)
    return Expected(voice, rate, split_prompt(entry["prompt"]).speech, entry["environment"] or "")


def score_clip(scorer: ClipScorer, entry: Entry, clip: Clip, row: str, file: str) -> ScoreRow:
    """Score one clip in memory.

    Args:
        scorer: The metrics.
        entry: What the clip was generated from.
        clip: The clip.
        row: Row of the table.
        file: Path of the clip as it is written in the scores, relative to them.
    """
    found = dict(scorer.score(clip, expected_of(entry)))
    reasons = found.pop("reasons")
    assert isinstance(reasons, dict)
    values = {name: value for name, value in found.items() if not isinstance(value, dict)}
    return _row(entry, row, values, reasons, file)


def score_files(
    scorer: ClipScorer, entries: Sequence[Entry], clips: Path | None, row: str, beside: Path
) -> Iterator[ScoreRow]:
    """Score one file an entry; a file that is missing or broken gets a reason, not silence.

    The rows of files that exist note the file's hash as `clip_sha256`.

    Args:
        scorer: The metrics.
        entries: Of the prompt file.
        clips: Folder with `<output_name>.mp4`; None scores the entries' real target clips.
        row: Row of the table.
        beside: Folder of the scores file, which paths are written relative to.
    """
    for entry in entries:
        path = clip_path(entry, clips)
        file = _relative(path, beside)
        if not path.is_file():
            yield _unscored(scorer, entry, row, "file_missing", file)
            continue
        digest = short_hash(path)
        try:
            clip = read_clip(path)
        except MediaError:
            scored = _unscored(scorer, entry, row, "file_unreadable", file)
        else:
            scored = score_clip(scorer, entry, clip, row, file)
        yield replace(scored, notes=scored.notes | {"clip_sha256": digest})


def refuse_changed(rows: Sequence[ScoreRow], entries: Sequence[Entry], clips: Path | None, scores: Path) -> None:
    """Raise ValueError when a clip that has a row is another file by now.

    Args:
        rows: What is already scored, of one row of the table.
        entries: Of the prompt file.
        clips: As in `score_files`.
        scores: File that the rows stand in.
    """
    noted = {found.key: found.notes["clip_sha256"] for found in rows if "clip_sha256" in found.notes}
    for entry in entries:
        name = entry["output_name"]
        if name not in noted or (clips is None and entry["target_path"] is None):
            continue
        path = clip_path(entry, clips)
        if path.is_file() and short_hash(path) != noted[name]:
            raise ValueError(f"{path} is not the clip that {scores} holds scores of; remove {scores} and score again")


def clip_path(entry: Entry, clips: Path | None) -> Path:
    """Return the clip of an entry in a folder, or its real target clip where there is no folder."""
    return Path(entry["target_path"]) if clips is None else clips / f"{entry['output_name']}.mp4"


def short_hash(path: Path) -> str:
    """Return the first 16 hex digits of a file's SHA-256."""
    return sha256(path.read_bytes()).hexdigest()[:16]


def _unscored(scorer: ClipScorer, entry: Entry, row: str, reason: str, file: str) -> ScoreRow:
    return _row(entry, row, dict.fromkeys(scorer.names), dict.fromkeys(scorer.names, reason), file)


def _row(entry: Entry, row: str, scores: dict[str, float | None], reasons: dict[str, str], file: str) -> ScoreRow:
    name = entry["output_name"]
    return ScoreRow(name, row, str(entry["speaker"] or name), entry["seed"], scores, reasons, {"clip": file})


def _relative(path: Path, folder: Path) -> str:
    resolved, base = path.resolve(), folder.resolve()
    return str(resolved.relative_to(base)) if resolved.is_relative_to(base) else str(resolved)
