"""What metadata.jsonl says of the items; its field names are options, as those of the released sets were not seen."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from data_tools.released.layout import METADATA_NAME
from data_tools.verb.lists import Row, read_rows

IGNORE = "none"


@dataclass(frozen=True)
class Fields:
    """Names of the fields of a row.

    Attributes:
        video: path of the target's video; without suffix it is the item's name, or its last parts are.
        caption: the prompt.
        reference: path of the reference's video.
        speaker: who speaks.
    """

    video: str = "media_path"
    caption: str = "caption"
    reference: str = "reference_path"
    speaker: str = "speaker"


@dataclass
class Metadata:
    """Rows of a metadata.jsonl by the paths that name their items.

    Attributes:
        fields: names of the fields.
        rows: all rows; none where there is no file.
        counts: how many items have a row, several, or none, and how many lack a prompt or a speaker.
    """

    fields: Fields
    rows: list[Row]
    counts: Counter[str] = field(default_factory=Counter)
    _tails: dict[str, list[int]] = field(default_factory=dict)
    _full: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Index the rows by the ends of their paths."""
        for number, row in enumerate(self.rows):
            tails = _tails_of(row.get(self.fields.video))
            for position, tail in enumerate(tails):
                self._tails.setdefault(tail, []).append(number)
                if position == 0:
                    self._full.setdefault(tail, []).append(number)

    def meta_of(self, item: str) -> dict[str, Any]:
        """Return `speaker` (None when unknown), and `prompt` and `reference_source` where they are known.

        Where several rows belong to an item, a value counts only if they agree.
        """
        rows = self._rows_of(item)
        found = "one row" if len(rows) == 1 else "several rows" if rows else "no row"
        self.counts[f"with {found} in metadata.jsonl"] += bool(self.rows)
        prompt = _agreed(rows, self.fields.caption)
        speaker = _agreed(rows, self.fields.speaker)
        reference = _agreed(rows, self.fields.reference)
        self.counts["without a prompt"] += prompt is None
        self.counts["of an unknown speaker"] += speaker is None
        known = {"prompt": prompt, "reference_source": reference}
        return {"speaker": speaker} | {name: value for name, value in known.items() if value is not None}

    def _rows_of(self, item: str) -> list[Row]:
        numbers = self._tails.get(item, [])
        for tail in _tails_of(item, suffix=False):
            numbers = numbers or self._full.get(tail, [])
        return [self.rows[number] for number in numbers]


def read_metadata(path: str | None, places: list[Path], fields: Fields) -> tuple[Metadata, Path | None]:
    """Read a metadata.jsonl.

    Args:
        path: the file; "none" for no file; None to look for one.
        places: folders to look in, and in their `train`.
        fields: names of its fields.

    Returns:
        The rows and where they were found.

    Raises:
        ValueError: when the file is missing, there are two, or no row has the field of the video's path.
    """
    if path == IGNORE:
        return Metadata(fields, []), None
    looked = [folder / METADATA_NAME for place in places for folder in (place, place / "train")]
    found = [Path(path)] if path is not None else sorted({file for file in looked if file.is_file()})
    if len(found) > 1:
        raise ValueError(f"{found[0]} and {found[1]} are both there; choose one with --metadata, or --metadata none")
    if not found:
        return Metadata(fields, []), None
    rows = read_rows(found[0], ())
    plain = [row for row in rows if isinstance(row, dict)]
    if not any(isinstance(row.get(fields.video), str) for row in plain):
        names = ", ".join(sorted({name for row in plain for name in row})) or "none"
        raise ValueError(
            f"{found[0]} has no path under '{fields.video}' (its fields: {names}); name the field of the target's "
            "video with --video_field, or use --metadata none"
        )
    return Metadata(fields, plain), found[0]


def _tails_of(path: object, suffix: bool = True) -> list[str]:
    """Return a path without suffix and its ends, the longest first: a/b/c, b/c, c."""
    if not isinstance(path, str) or not path.strip():
        return []
    whole = PurePosixPath(path.replace("\\", "/").lstrip("/"))
    parts = (whole.with_suffix("") if suffix and whole.name else whole).parts
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _agreed(rows: list[Row], name: str) -> str | None:
    """Return the value that all rows give, as text; None when one lacks it or they differ."""
    values = {row.get(name) for row in rows if isinstance(row.get(name), str | int)}
    complete = len(values) == 1 and all(isinstance(row.get(name), str | int) for row in rows)
    text = str(values.pop()).strip() if complete else ""
    return text or None
