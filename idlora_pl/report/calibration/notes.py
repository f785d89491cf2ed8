"""The sentences under a calibration: on which clips it stands, what is missing, and how to read it."""

from idlora_pl.report.calibration.build import Calibration
from idlora_pl.report.calibration.fit import MIN_SPEAKERS

_HOW = (
    "Level: mean over the clips that every compared method has the score for; in parentheses the place of the method, "
    "1 the best. Rows without a published value are rows of the scores that are no published method.",
    "tau: Kendall's tau-b of our order of the methods with the published one, 1 the same and -1 the reverse. p: share "
    "of all orders that agree at least as well; it covers the order alone, not the choice of clips.",
    "off: mean absolute difference from the published levels, which is above zero even where nothing is off; signed: "
    "the mean of ours minus published; covered: methods whose 95 % interval holds the published level. A stand-in is "
    "on another scale and has none of them.",
    "pairs: share of pairs of methods that a single clip orders as published, mean over clips; clips: clips that order "
    "all methods as published.",
    f"Intervals are over speakers (of off a bootstrap), given from {MIN_SPEAKERS} speakers on; nothing is decided on "
    "fewer.",
)


def notes(found: Calibration) -> list[str]:
    """Return the sentences in order."""
    return [*_clips(found), *_methods(found), *_left_out(found), *_absent(found), *_HOW, *_unverified(found)]


def _clips(found: Calibration) -> list[str]:
    of = f" of split {found.split}" if found.split else ""
    elsewhere = f"; {found.n_elsewhere} of other splits are left out" if found.n_elsewhere else ""
    clips = "1 clip" if found.n_clips == 1 else f"{found.n_clips} clips"
    return [f"{clips}{of} in {found.scores}{elsewhere}."]


def _methods(found: Calibration) -> list[str]:
    pairs = ", ".join(f"{one.name} is {one.label}" for one in found.published.methods)
    said = [f"Methods: {pairs}."]
    if found.published.nameless:
        said.append(
            f"Not compared, because {found.published.path} names no method for them (--method ROW=LABEL does): "
            f"{', '.join(found.published.nameless)}."
        )
    return said + [f"No number of the row {row}: {why}." for row, why in found.silent.items()]


def _left_out(found: Calibration) -> list[str]:
    """Say which clips and methods are not compared, once for all scores that lack the same."""
    said: dict[str, list[str]] = {}
    for _, measured in found.columns:
        for one in measured:
            parts = [f"{key} ({why})" for key, why in (one.left_out or {}).items()]
            parts += [f"all clips of {method} ({why})" for method, why in (one.without or {}).items()]
            if parts:
                said.setdefault(", ".join(parts), []).append(one.candidate.score)
    return [f"Left out of {', '.join(scores)}: {parts}." for parts, scores in said.items()]


def _absent(found: Calibration) -> list[str]:
    said: dict[str, list[str]] = {}
    for _, measured in found.columns:
        for one in measured:
            if one.fit is None:
                said.setdefault(one.absence, []).append(one.candidate.score)
    lines = [f"No numbers of {', '.join(scores)}: {why}." for why, scores in said.items()]
    return [*lines, *([found.remark] if lines and found.remark else [])]


def _unverified(found: Calibration) -> list[str]:
    doubtful = any(one.fit is not None and not one.is_verified for _, measured in found.columns for one in measured)
    return ["Unverified: the anchor of the scorer had not passed on the machine that scored."] if doubtful else []
