"""Score clips against the items of a benchmark: for callbacks, folders, floors and ceilings alike."""

from idlora_pl.scoring.clips import ClipSource, clip_sources, short_hash
from idlora_pl.scoring.expected import Wanted, expected_of, wanted_of
from idlora_pl.scoring.rows import score_clip, score_source

__all__ = [
    "ClipSource",
    "Wanted",
    "clip_sources",
    "expected_of",
    "score_clip",
    "score_source",
    "short_hash",
    "wanted_of",
]
