"""Under which terms people are in the clips: every speaker has one of four words, and unknown is refused by default."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from data_tools.verb.lists import Row
from idlora_pl.files import read_json

Consent = Literal["public benchmark", "own recording", "signed", "unknown"]
CONSENTS: tuple[str, ...] = get_args(Consent)
UNKNOWN = "unknown"
ALLOWED = "unknown, allowed by --allow_unknown_consent"
"""What stands in the index of shards, and in adapters, for people whose consent nobody knows."""


def read_consents(path: str | None) -> dict[str, str]:
    """Read {video, folder or speaker: consent} from a JSON file; {} without one.

    Raises:
        ValueError: when it is missing or holds something else.
    """
    if path is None:
        return {}
    try:
        found = read_json(path)
    except FileNotFoundError as error:
        raise ValueError(f'{path} does not exist; write {{"<speaker>": "signed", ...}}') from error
    if not isinstance(found, dict):
        raise ValueError(f'{path} must be one object {{"<speaker>": "<consent>"}}')
    for speaker, consent in found.items():
        check_consent(consent, f"{path}: speaker {speaker}")
    return found


def told_consent(agreed: Mapping[str, str], names: Iterable[str]) -> str | None:
    """Return the consent of the first of a video's names (source, folder, speaker) of which something is said."""
    return next((agreed[name] for name in names if name in agreed), None)


def refuse_unmatched(
    agreed: Mapping[str, str], videos: Mapping[str, Path], speakers: Iterable[str], where: str
) -> None:
    """Raise ValueError for a name that is no video, folder or speaker: it would be overlooked."""
    known = {*videos, *speakers, *(path.absolute().parent.name for path in videos.values())}
    if unmatched := [name for name in agreed if name not in known]:
        raise ValueError(f"{where} names '{unmatched[0]}', which is no video, folder or speaker here; correct the name")


def check_consent(consent: object, where: str) -> str:
    """Return a consent; raise ValueError when it is none of the four."""
    if consent not in CONSENTS:
        raise ValueError(f"{where} has consent {consent!r}; write one of {', '.join(CONSENTS)}")
    return str(consent)


def weakest(consents: Iterable[str]) -> str:
    """Return what can be said of all: unknown as soon as one is unknown, else all of them in one line.

    Example:
        >>> weakest(["signed", "own recording"]), weakest(["signed", "unknown"])
        ('own recording + signed', 'unknown')
    """
    found = {part for consent in consents for part in consent.split(" + ")}
    return UNKNOWN if UNKNOWN in found or not found else " + ".join(sorted(found))


def of_pairs(pairs: Sequence[Row], clips: Mapping[str, Row]) -> list[str]:
    """Return the consent of each pair: that of the people in its target and in its reference."""
    found = []
    for pair in pairs:
        rows = [clips.get(str(pair.get(name)), {}) for name in ("target_key", "reference_key")]
        found.append(weakest(str(row.get("consent") or UNKNOWN) for row in rows))
    return found


def speakers_of(rows: Iterable[Row]) -> dict[str, str]:
    """Return the consent of every speaker of rows that have `speaker` and `consent`."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(str(row.get("speaker") or ""), []).append(str(row.get("consent") or UNKNOWN))
    return {speaker: weakest(consents) for speaker, consents in sorted(found.items())}


def refuse_unknown(speakers: Mapping[str, str], where: str, *, allowed: bool) -> None:
    """Raise ValueError when the consent of a speaker is unknown, unless that is allowed."""
    unknown = [speaker or "(no name)" for speaker, consent in speakers.items() if consent == UNKNOWN]
    if unknown and not allowed:
        raise ValueError(
            f"{where}: the consent of {len(unknown)} of {len(speakers)} speakers is unknown ({unknown[0]} is one); say "
            f"it with --consent or --consents, or pass --allow_unknown_consent, which index and adapters repeat"
        )


def in_index(rows: Iterable[Row]) -> str:
    """Return the line on consent of a shard set's index, which adapters trained on it repeat.

    Example:
        >>> in_index([{"speaker": "a", "consent": "signed"}, {"speaker": "b", "consent": "signed"}])
        'signed'
        >>> in_index([{"speaker": "a", "consent": "signed"}, {"speaker": "b", "consent": "unknown"}])
        'signed (1 speakers); unknown, allowed by --allow_unknown_consent (1 speakers)'
    """
    counts = Counter(speakers_of(rows).values())
    named = {ALLOWED if consent == UNKNOWN else consent: count for consent, count in counts.items()}
    if len(named) == 1:
        return next(iter(named))
    return "; ".join(f"{consent} ({count} speakers)" for consent, count in sorted(named.items()))
