"""`idlora score`: a folder of clips, a method of a manifest, or a floor or ceiling, into scores.jsonl."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from jsonargparse.typing import PositiveInt
from rich.console import Console

from idlora_pl.benchmark.items import Item, read_prompts
from idlora_pl.benchmark.layouts import check_layout
from idlora_pl.evaluation.clips import Bound, ClipSource, bound_sources, clip_sources
from idlora_pl.evaluation.disjoint import compare_speakers
from idlora_pl.evaluation.plan import Again, Folder, origin_of
from idlora_pl.evaluation.run import Outcome, ScorerSet, score_folder
from idlora_pl.nano.world import ENVIRONMENTS
from idlora_pl.scorers.loading import names_of
from idlora_pl.scorers.proof import VERIFIED
from idlora_pl.scorers.weights import WEIGHTS, Unavailable


def score(
    manifest: Path,
    *,
    row: str,
    scores: Path,
    clips: Path | None = None,
    method: str | None = None,
    bound: Bound | None = None,
    bound_seed: int = 0,
    base: str = "nano",
    base_weights: Path | None = None,
    size: str | None = None,
    seed: int | None = None,
    scorers: str | None = None,
    weights: Path = WEIGHTS,
    inputs: Path | None = None,
    verified: Path = VERIFIED,
    again: Again = "failed",
    training: Path | None = None,
    processes: PositiveInt = 1,
    devices: PositiveInt | None = None,
    accelerator: str = "auto",
) -> None:
    """Score clips of any method against a manifest or prompt file; goes on where it stopped.

    Args:
        manifest: Manifest of a benchmark, or prompt file; see docs/scoring.md.
        row: Row of the table.
        scores: scores.jsonl to append to.
        clips: Folder of <id>.<any ending>; without it, the real targets.
        method: The clips that the manifest names for this method.
        bound: A floor or ceiling; vae writes its clips to --clips.
        bound_seed: Seed of the choice of same_speaker and other_speaker.
        base: Base model whose codecs vae uses.
        base_weights: Its weights.
        size: HxW that vae crops to; by default the clip's, cut to what the codecs take.
        seed: Seed that these clips were generated with; by default that of the items.
        scorers: Names between commas, nano, paper or available; by default what fits the items.
        weights: Folder of weights.
        inputs: Folder of anchor inputs: quick anchors that have not run yet run first.
        verified: File of proofs that `idlora doctor` writes.
        again: Which scores of the row are made anew.
        training: Training set (shards, manifest or list): are its speakers others?
        processes: How many score at once; each holds all networks.
        devices: Score on so many devices with Lightning; for torchrun and SLURM, too.
        accelerator: cpu, gpu or auto, with --devices.
    """
    if not row.strip():
        raise ValueError("--row must be the name of a row of the table; got an empty one")
    cropped = None if size is None else _height_and_width(size)
    items = read_prompts(manifest, use="scoring")
    check_layout(items)
    if scores.is_dir():
        raise ValueError(f"--scores {scores} is a folder; give the scores.jsonl to append to")
    try:
        names = names_of(scorers or _usual(items), weights)
        chosen = ScorerSet(tuple(names), weights, verified, inputs)
        sources = _sources(
            items, clips, method, bound, seed=bound_seed, base=base, base_weights=base_weights, size=cropped
        )
        if training is not None:
            sources = _with_leaks(items, sources, training)
        if seed is not None or clips is None or bound is not None:  # real clips are of no seed
            items = [replace(item, seed=seed) for item in items]
        folder = Folder(items, sources, row, scores, again, origin_of(items, manifest))
        found: Outcome | None
        if devices is not None:
            from idlora_pl.evaluation.ranks import score_on_ranks  # loads Lightning, which takes seconds

            found = score_on_ranks(folder, chosen, devices=devices, accelerator=accelerator)
        else:
            found = score_folder(folder, chosen, processes=processes)
    except Unavailable as error:
        print(f"idlora: nothing was scored: {error}", file=sys.stderr)
        sys.exit(2)
    if found is not None:
        _report(row, found)


def _height_and_width(size: str) -> tuple[int, int]:
    height, _, width = size.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise ValueError(f"--size must be HxW, two whole numbers of at least 1; got {size!r}")
    return int(height), int(width)


def _usual(items: Sequence[Item]) -> str:
    """Return the scorers that fit the items: those of the nano world if all items are of it."""
    return "nano" if all(item.environment in ENVIRONMENTS for item in items) else "available"


def _sources(
    items: Sequence[Item],
    clips: Path | None,
    method: str | None,
    bound: Bound | None,
    *,
    seed: int,
    base: str,
    base_weights: Path | None,
    size: tuple[int, int] | None,
) -> dict[str, ClipSource]:
    """Find the clips that the options choose."""
    if method is not None and (clips is not None or bound is not None):
        raise ValueError("--method takes the clips that the manifest names; leave out --clips and --bound")
    if bound == "vae":
        if clips is None:
            raise ValueError("--bound vae writes the clips that it scores; give --clips FOLDER")
        from idlora_pl.evaluation.through_codecs import reconstructed

        return reconstructed(items, clips, base, base_weights, size)
    if bound is not None and clips is not None:
        raise ValueError(f"--bound {bound} scores real clips of the manifest; leave out --clips")
    if bound is not None:
        return bound_sources(items, bound, seed=seed)
    return clip_sources(items, clips, method)


def _with_leaks(items: Sequence[Item], sources: Mapping[str, ClipSource], training: Path) -> dict[str, ClipSource]:
    """Tell who is in the training set, and note it with the clips of these speakers."""
    found = compare_speakers(items, training)
    Console(soft_wrap=True).print(found.sentence(), style="green" if found.is_shown else "red", markup=False)
    noted = dict(sources)
    for item in items:
        if item.speaker in found.leaked:
            source = noted[item.id]
            noted[item.id] = replace(source, notes={**source.notes, "speaker_in_training": "yes"})
    return noted


def _report(row: str, found: Outcome) -> None:
    """Say what was scored, what is missing and why; end with 1 where a scorer failed."""
    console = Console(soft_wrap=True)
    console.print(f"{row}: {found.n_clips} clips scored, {found.n_before} were scored before")
    if found.reasons:
        counted = ", ".join(f"{reason} {count}" for reason, count in found.reasons.items())
        console.print(f"scores without a value: {counted}")
    if found.failed:
        for line in found.failed[:10]:
            console.print(line, markup=False)
        sys.exit(f"idlora: scorers failed at {len(found.failed)} scores, which is a fault of ours; their rows say why")
