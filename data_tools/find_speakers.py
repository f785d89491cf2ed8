"""Group clips into speakers by voice and face; write speakers.json and say what was found."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from data_tools.speakers.embedders import Embedder, available_face, choose_embedder
from data_tools.speakers.grouping import Agreement, SeenBy, compare, confidences, disagreements, group, joint_distances
from data_tools.speakers.remembered import Seen, embed_clips, stacked
from data_tools.verb.command import run
from data_tools.verb.lists import Row, file_of, moved, read_clips, rejection, write_rows
from data_tools.verb.parallel import n_workers_of
from idlora_pl.files import read_json, replacing, sha256_of
from idlora_pl.scorers.weights import WEIGHTS


@dataclass(frozen=True, eq=False)
class Found:
    """Clips with their speakers.

    Attributes:
        rows: of the clips.
        groups: number of the speaker of each.
        names: of the speakers.
        margins: how sure each clip is, in units of the threshold.
        nearest: number of the nearest other speaker, -1 without one.
        disagree: what voice and face say against it.
    """

    rows: list[Row]
    groups: list[int]
    names: list[str]
    margins: list[float | None]
    nearest: list[int]
    disagree: list[Row]


def speakers_file(found: Found, labels: Sequence[str], embedders: Sequence[Embedder], truth: Agreement | None) -> Row:
    """Return speakers.json: every speaker with its clips and how sure it is, and what was used to find it."""
    speakers: dict[str, Row] = {}
    for number, name in enumerate(found.names):
        members = [index for index, one in enumerate(found.groups) if one == number]
        margins = [margin for index in members if (margin := found.margins[index]) is not None]
        others = Counter(found.names[found.nearest[index]] for index in members if found.nearest[index] >= 0)
        speakers[name] = {
            "labelled": any(labels[index] for index in members),
            "margin": round(float(np.mean(margins)), 4) if margins else None,
            "least_margin": min(margins, default=None),
            "nearest": others.most_common(1)[0][0] if others else None,
            "clips": [found.rows[index]["key"] for index in members],
        }
    used = [
        {"view": one.view, "scorer": one.name, "weights": one.digest, "threshold": one.threshold}
        | {"chosen_on": one.chosen_on}
        for one in embedders
    ]
    return {"embedders": used, "truth": truth.row() if truth else None, "speakers": speakers}


def summary(found: Found, rejected: Sequence[Row], embedders: Sequence[Embedder], n_labelled: int) -> Table:
    """Return the numbers of a run as a table."""
    sizes = Counter(found.groups).values()
    table = Table(show_header=False)
    table.add_row("networks", ", ".join(f"{one.name} (threshold {one.threshold:g})" for one in embedders))
    table.add_row("clips", str(len(found.rows)))
    table.add_row("with a label", str(n_labelled))
    table.add_row("speakers", f"{len(found.names)}, of {min(sizes)} to {max(sizes)} clips")
    table.add_row("clips with a margin below 0.1", str(sum(m is not None and m < 0.1 for m in found.margins)))
    for kind, count in sorted(Counter(f"{row['by']}: {row['kind']}" for row in found.disagree).items()):
        table.add_row(f"disagreements, {kind}", str(count))
    for reason, count in sorted(Counter(row["reason"] for row in rejected).items()):
        table.add_row(f"rejected, {reason}", str(count))
    return table


def name_groups(groups: Sequence[int], labels: Sequence[str]) -> list[str]:
    """Name groups: by the label of their clips, else speaker-0001, ... but for names that are labels."""
    given = {number: label for number, label in zip(groups, labels, strict=True) if label}
    numbers = (f"speaker-{count:04d}" for count in range(1, len(groups) + len(labels) + 1))
    free = (name for name in numbers if name not in labels)
    return [given[number] if number in given else next(free) for number in range(max(groups) + 1)]


def labels_of(rows: Sequence[Row], labels: str) -> list[str]:
    """Return the label of each clip, "" without one: from a JSON file by key or source, from a key, or none.

    Raises:
        ValueError: when the file is not one object of names.
    """
    if labels == "none":
        return [""] * len(rows)
    if not labels.endswith(".json"):
        return [str(row.get(labels) or "") for row in rows]
    try:
        given = read_json(labels)
    except (OSError, ValueError) as error:
        raise ValueError(f"--labels: {error}") from error
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given.values()):
        raise ValueError(f'--labels {labels} must be one object {{"<clip key or source>": "<speaker>"}}')
    return [str(given.get(row["key"], given.get(row.get("source"), ""))) for row in rows]


def find(rows: list[Row], seen: Sequence[tuple[Embedder, list[Seen]]], labels: Sequence[str]) -> Found:
    """Group clips, every one of which at least one network has seen.

    Args:
        rows: of the clips.
        seen: networks with the vector of each clip, or the reason why there is none.
        labels: of the clips.
    """
    views = [SeenBy(one.view, stacked(vectors), one.threshold) for one, vectors in seen]
    distances = joint_distances(views)
    groups = group(distances, labels)
    names = name_groups(groups, labels)
    margins, nearest = confidences(distances, groups)
    keys = [row["key"] for row in rows]
    return Found(rows, groups, names, margins, nearest, disagreements(views, groups, keys, names))


def find_speakers(
    clips: str,
    output: str,
    voice: str = "spk_sim_ecapa",
    face: str = "auto",
    weights: str = str(WEIGHTS),
    labels: str = "speaker",
    truth: str | None = None,
    voice_threshold: float | None = None,
    face_threshold: float | None = None,
    workers: int | None = None,
) -> None:
    """Group clips into speakers by voice and, where there is a network for it, by face.

    Writes OUTPUT/clips.jsonl (the list with `speaker` and `speaker_margin`), speakers.json (who has which clips and
    how sure that is), disagreements.jsonl, rejected.jsonl with a reason (a voice that cannot be read: unreadable,
    no_audio, silent, too_short, crashed; unsafe_key, duplicate_key, missing_file), and OUTPUT/embeddings, from which
    a run that was interrupted continues.

    Args:
        clips: The clips.jsonl of cut_clips, or a folder of videos or sounds.
        output: The folder to write to; never that of the list.
        voice: Scorer whose speaker network is used: spk_sim_ecapa, spk_sim_dvector, spk_sim, nano_speaker.
        face: Scorer whose face network is used: face_sim_mobilefacenet, face_sim, nano_face; none; or auto, which
            takes the first of a real world whose weights are there and whose threshold is known.
        weights: Folder of their weights.
        labels: Speakers that are known, which are never split or merged: a key of the list, a .json file {"<clip key
            or source>": "<speaker>"}, or none.
        truth: A key of the list that holds the true speaker, to print how good the result is; never the labels' key.
        voice_threshold: Cosine above which two groups of clips are one speaker's; by default the documented one.
        face_threshold: The same for faces.
        workers: Processes; by default one for every core.
    """
    source, folder = Path(clips), Path(output)
    if source.parent.resolve() == folder.resolve() and source.name == "clips.jsonl":
        raise ValueError(f"output {folder} would replace {source}; choose another folder")
    embedders = _chosen(voice, face, weights, labels, truth, voice_threshold, face_threshold)
    rows, rejected = read_clips(source)
    if truth is not None and not any(row.get(truth) for row in rows):
        raise ValueError(f"no clip of {source} has a value under --truth {truth}; give a key of its rows")
    hashes = {row["key"]: sha256_of(file_of(row, source)) for row in rows}
    files = {file_of(row, source): hashes[row["key"]] for row in rows}
    known = embed_clips(files, embedders, folder / "embeddings", workers=n_workers_of(workers))
    kept, unseen = _seen_by_any(rows, hashes, known, embedders)
    rejected += unseen
    write_rows(folder / "rejected.jsonl", rejected)
    if not kept:
        raise ValueError(f"no clip has a voice or a face; {folder / 'rejected.jsonl'} has the reasons")
    given = labels_of(kept, labels)
    seen = [(one, [known[one.name][hashes[row["key"]]] for row in kept]) for one in embedders]
    found = find(kept, seen, given)
    true = [str(row.get(truth) or "") for row in kept] if truth is not None else None
    agreement = compare([found.names[number] for number in found.groups], true) if true is not None else None
    _write(found, source, folder, speakers_file(found, given, embedders, agreement))
    console = Console()
    console.print(summary(found, rejected, embedders, sum(map(bool, given))))
    if agreement is not None:
        console.print(agreement.sentence())


def check_needs(
    *,
    voice: str,
    face: str,
    weights: str,
    labels: str,
    truth: str | None,
    voice_threshold: float | None,
    face_threshold: float | None,
    **_: object,
) -> None:
    """Raise what find_speakers would raise of its settings, weights and labels, before any clip is read."""
    _chosen(voice, face, weights, labels, truth, voice_threshold, face_threshold)
    labels_of([], labels)


def _chosen(
    voice: str,
    face: str,
    weights: str,
    labels: str,
    truth: str | None,
    voice_threshold: float | None,
    face_threshold: float | None,
) -> list[Embedder]:
    """Return the networks, once the settings were checked."""
    if truth is not None and truth == labels:
        raise ValueError(f"--truth {truth} is what --labels says, so nothing would be measured; give --labels none")
    at = Path(weights).expanduser()
    return [choose_embedder("voice", voice, at, voice_threshold), *_face(face, at, face_threshold)]


def _face(name: str, weights: Path, threshold: float | None) -> list[Embedder]:
    """Return the face network by its name, by what is there ("auto"), or nothing ("none")."""
    chosen = available_face(weights) if name == "auto" else name
    return [] if chosen in (None, "none") else [choose_embedder("face", str(chosen), weights, threshold)]


def _seen_by_any(
    rows: Sequence[Row],
    hashes: dict[str, str],
    known: dict[str, dict[str, Seen]],
    embedders: Sequence[Embedder],
) -> tuple[list[Row], list[Row]]:
    """Part the clips that a network has seen from those that none has, which are rejected for their voice's reason."""
    kept, rejected = [], []
    for row in rows:
        seen = {one.view: known[one.name][hashes[row["key"]]] for one in embedders}
        reasons = {view: value for view, value in seen.items() if isinstance(value, str)}
        if len(reasons) < len(seen):
            kept.append(row)
        else:
            detail = ", ".join(f"{view}: {reason}" for view, reason in reasons.items())
            rejected.append(rejection(row, reasons["voice"], detail))
    return kept, rejected


def _write(found: Found, source: Path, folder: Path, speakers: Row) -> None:
    write_rows(folder / "disagreements.jsonl", found.disagree)
    with replacing(folder / "speakers.json") as partial:
        partial.write_text(json.dumps(speakers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    listed = folder / "clips.jsonl"
    write_rows(
        listed,
        (
            moved(row, source, listed) | {"speaker": found.names[number], "speaker_margin": margin}
            for row, number, margin in zip(found.rows, found.groups, found.margins, strict=True)
        ),
    )


if __name__ == "__main__":
    run(find_speakers)
