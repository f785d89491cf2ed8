"""Score clips against the items of a benchmark: for callbacks, folders, floors and ceilings alike."""

from idlora_pl.evaluation.clips import ClipSource, clip_sources, short_hash
from idlora_pl.evaluation.rows import Wanted, expected_of, score_clip, score_source, wanted_of

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
