"""From one clip to one row: every score a value or a reason, whatever the file is like.

What a clip should be like is the voice, the words, the sounds and the target of its item.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from idlora_pl.benchmark.items import Item
from idlora_pl.evaluation.clips import ClipSource, short_hash
from idlora_pl.files import sha256_of
from idlora_pl.media.clip import Clip, MediaError
from idlora_pl.media.reading import read_audio, read_recording
from idlora_pl.media.sound import UnusableSoundError
from idlora_pl.metrics.clip_mean import ClipScore, Expected
from idlora_pl.results.row import ScoreRow
from idlora_pl.scorers.loading import Scorer

FAILED = "scorer_failed"
"""Reason of a scorer that ended in an error: a fault of ours, kept beside the error's text and tried again."""


def score_clip(
    scorers: Sequence[Scorer],
    item: Item,
    clip: Clip,
    row: str,
    *,
    notes: Mapping[str, str],
    wanted: Wanted | None = None,
) -> ScoreRow:
    """Score one clip in memory.

    Args:
        scorers: What scores it.
        item: What the clip was generated from.
        clip: The clip.
        row: Row of the table.
        notes: What the row says about the clip, such as its path.
        wanted: What it is compared with, where that was read already.
    """
    wanted = wanted or wanted_for(scorers, item)
    scores = [(scorer, _scored(scorer, clip, wanted)) for scorer in scorers]
    return _row(item, row, scores, notes)


def wanted_for(scorers: Iterable[Scorer], item: Item) -> Wanted:
    """Read what the clip of an item is compared with, the target only where a scorer looks at it."""
    return wanted_of(item, with_target=any(scorer.needs_target for scorer in scorers))


def score_source(scorers: Sequence[Scorer], item: Item, source: ClipSource, row: str, beside: Path) -> ScoreRow:
    """Score one file; one that is missing or broken gets a reason, not silence.

    Args:
        scorers: What scores it.
        item: What the clip was generated from.
        source: The file.
        row: Row of the table.
        beside: Folder of the scores file, which paths are written relative to.
    """
    notes = notes_of(item, beside) | dict(source.notes)
    path = source.path
    if path is None:
        return unscored(scorers, item, row, source.reason, notes)
    notes["clip"] = relative(path, beside)
    if not path.is_file():
        return unscored(scorers, item, row, "file_missing", notes)
    notes["clip_sha256"] = short_hash(path)
    if not path.stat().st_size:
        return unscored(scorers, item, row, "file_empty", notes)
    try:
        clip = read_recording(path)
    except (MediaError, MemoryError) as error:
        return unscored(scorers, item, row, "file_unreadable", notes | {"unreadable": _said(error)})
    return score_clip(scorers, item, clip, row, notes=notes)


def unscored(scorers: Sequence[Scorer], item: Item, row: str, reason: str, notes: Mapping[str, str]) -> ScoreRow:
    """Return the row of a clip that there is no clip of."""
    return _row(item, row, [(scorer, ClipScore(reason=reason)) for scorer in scorers], notes)


def notes_of(item: Item, beside: Path) -> dict[str, str]:
    """Return what a row says about its item: prompt, split, paths of reference and target, and a hash of it all."""
    paths = {"reference": item.reference, "target": item.target, "first_frame": item.first_frame}
    notes = {name: relative(path, beside) for name, path in paths.items() if path is not None}
    notes |= {"prompt": item.prompt} if item.prompt else {}
    notes |= {"split": item.split} if item.split is not None else {}
    return notes | {"item_sha256": item_digest(item)}


def _scored(scorer: Scorer, clip: Clip, wanted: Wanted) -> ClipScore:
    """Score with one scorer; its failure, whatever it is, is the failure of one score, and is named.

    Libraries have errors of their own kinds, and one clip that is too large for the memory is no reason to lose others.
    """
    try:
        score = scorer.metric.score_clip(clip, wanted.expected)
        missing = {name: score.reason_of(name) for name in scorer.metric.names if name not in score.values}
    except Exception as error:
        return ClipScore(reason=FAILED, notes={"error": _said(error)})
    return replace(score, reasons={name: wanted.faults.get(reason, reason) for name, reason in missing.items()})


def _said(error: Exception) -> str:
    """Return kind and text of an error in one line; a `MediaError` says enough without its kind."""
    text = " ".join(str(error).split())
    return (text if isinstance(error, MediaError) else f"{type(error).__name__}: {text}")[:500]


def _row(item: Item, row: str, scores: Sequence[tuple[Scorer, ClipScore]], notes: Mapping[str, str]) -> ScoreRow:
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    facts: dict[str, Any] = {}
    for scorer, score in scores:
        for wanted in scorer.metric.names:
            values[wanted] = score.values.get(wanted)
            if wanted not in score.values:
                reasons[wanted] = score.reason_of(wanted)
        facts[scorer.name] = replace(scorer.facts, details=score.notes, curves=score.curves)
    return ScoreRow(item.id, row, item.person, item.seed, values, reasons, dict(notes), facts)


def relative(path: Path, folder: Path) -> str:
    """Return a path as it is written in a scores file that lies in `folder`."""
    resolved, base = path.resolve(), folder.resolve()
    return str(resolved.relative_to(base)) if resolved.is_relative_to(base) else str(resolved)


_TEXTS = ("speech", "sounds", "speaking_style", "environment_sounds", "environment", "language")


@dataclass(frozen=True)
class Wanted:
    """What a clip is compared with.

    Attributes:
        expected: As scorers take it.
        faults: Reason code that stands for another: {"no_reference": "reference_unreadable"} where there is a
            reference that cannot be read.
    """

    expected: Expected
    faults: Mapping[str, str]


def wanted_of(item: Item, *, with_target: bool = True) -> Wanted:
    """Read what the clip of an item should be like.

    Args:
        item: As `read_prompts` gives it. The voice is that of `compare`, else of the reference.
        with_target: Whether to read the real clip, which takes time and memory.
    """
    faults: dict[str, str] = {}
    voice, rate = None, None
    if (path := item.compare or item.reference) is not None:
        try:
            voice, rate = read_audio(path)
        except UnusableSoundError as error:
            faults["no_reference"] = f"reference_{error.reason}"
        except (MediaError, MemoryError):
            faults["no_reference"] = "reference_unreadable"
    target: Clip | None = None
    if with_target and item.target is not None:
        try:
            target = read_recording(item.target)
        except (MediaError, MemoryError):
            faults["no_target"] = "target_unreadable"
    expected = Expected(
        voice,
        rate,
        item.speech or "",
        item.environment or "",
        target,
        item.sounds or "",
        item.environment_sounds or "",
        item.speaking_style or "",
        item.language or "en",
        item.reference_speech or "",
    )
    return Wanted(expected, faults)


def expected_of(item: Item) -> Expected:
    """Return what `wanted_of` reads."""
    return wanted_of(item).expected


def item_digest(item: Item) -> str:
    """Return 16 hex digits for everything that a clip of the item is compared with: texts, voice and target."""
    paths = {"reference_path": item.reference, "compare_path": item.compare, "target_path": item.target}
    files = {name: sha256_of(path) for name, path in paths.items() if path is not None}
    texts = {name: getattr(item, name) for name in _TEXTS}
    if item.reference_speech is not None:
        texts["reference_speech"] = item.reference_speech
    content = json.dumps([texts, files], sort_keys=True)
    return sha256(content.encode()).hexdigest()[:16]
