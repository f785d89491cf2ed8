"""What stands in a scores file already: is it still what it says, or is it to be made anew?"""

from __future__ import annotations

from pathlib import Path

from idlora_pl.results.row import ScoreRow
from idlora_pl.scoring.clips import ClipSource, short_hash
from idlora_pl.scoring.expected import Entry, item_digest
from idlora_pl.scoring.rows import relative

_MISSING = "file_missing"


def has_other_reason(line: ScoreRow, source: ClipSource, beside: Path) -> bool:
    """Say whether a clip that was not there is there by now, or is missing elsewhere or for another reason."""
    reasons = {line.reasons.get(name) for name in line.scores}
    if len(reasons) != 1 or any(value is not None for value in line.scores.values()):
        return False
    reason = reasons.pop()
    if source.path is None:
        return reason != source.reason and (reason == _MISSING or "clip" not in line.notes)
    if reason == _MISSING:
        return source.path.is_file() or line.notes.get("clip") != relative(source.path, beside)
    return "clip" not in line.notes


def refuse_changed(row: ScoreRow, entry: Entry, source: ClipSource, scores: Path) -> None:
    """Raise ValueError when a clip that has scores is another by now, or is compared with other things."""
    path, noted = source.path, row.notes
    anew = f"score row '{row.row}' anew with --again all"
    if "clip_sha256" in noted:
        if path is not None and path.is_file():
            if short_hash(path) != noted["clip_sha256"]:
                raise ValueError(f"{path} is not the clip that {scores} holds scores of; {anew}")
        elif path is None or not _is_place(path, noted.get("clip", ""), scores.parent):
            missing = f"{path} does not exist" if path is not None else f"item '{row.key}' has no clip here"
            raise ValueError(
                f"{missing}, and {scores} holds scores of {noted.get('clip')}; give those clips or another --row, or "
                f"{anew}"
            )
    if "item_sha256" in noted and item_digest(entry) != noted["item_sha256"]:
        raise ValueError(
            f"item '{row.key}' has another text, reference or target than when {scores} was written; {anew}"
        )


def _is_place(path: Path, noted: str, beside: Path) -> bool:
    """Say whether a path is the noted one, whatever its ending."""
    return Path(relative(path, beside)).with_suffix("") == Path(noted).with_suffix("")
