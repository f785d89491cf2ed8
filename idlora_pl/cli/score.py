"""`idlora score`: a folder of clips, a method of a manifest, or a floor or ceiling, into scores.jsonl."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

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


def score(arguments: list[str]) -> None:
    """Score clips of any method against a manifest or prompt file; goes on where it stopped."""
    options = _parser().parse_args(arguments)
    items = read_prompts(options.manifest, use="scoring")
    check_layout(items)
    if options.scores.is_dir():
        raise ValueError(f"--scores {options.scores} is a folder; give the scores.jsonl to append to")
    try:
        names = names_of(options.scorers or _usual(items), options.weights)
        chosen = ScorerSet(tuple(names), options.weights, options.verified, options.inputs)
        sources = _sources(options, items)
        items = _with_notes(options, items, sources)
        origin = origin_of(items, options.manifest)
        folder = Folder(items, sources, options.row, options.scores, options.again, origin)
        found: Outcome | None
        if options.devices is not None:
            from idlora_pl.evaluation.ranks import score_on_ranks  # loads Lightning, which takes seconds

            found = score_on_ranks(folder, chosen, devices=options.devices, accelerator=options.accelerator)
        else:
            found = score_folder(folder, chosen, processes=options.processes)
    except Unavailable as error:
        print(f"idlora: nothing was scored: {error}", file=sys.stderr)
        sys.exit(2)
    if found is not None:
        _report(options.row, found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="idlora score", description=score.__doc__)
    add, group = parser.add_argument, parser.add_argument_group
    add("manifest", type=Path, help="manifest of a benchmark, or prompt file; see docs/scoring.md")
    add("--row", type=_name, required=True, help="row of the table")
    add("--scores", type=Path, required=True, help="scores.jsonl to append to")
    which = group("which clips").add_argument
    which("--clips", type=Path, help="folder of <id>.<any ending>; without it, the real targets")
    which("--method", help="the clips that the manifest names for this method")
    which("--bound", choices=get_args(Bound), help="a floor or ceiling; vae writes its clips to --clips")
    which("--bound-seed", type=int, default=0, help="seed of the choice of same_speaker and other_speaker")
    which("--base", default="nano", help="base model whose codecs vae uses")
    which("--base-weights", type=Path, help="its weights")
    which("--size", type=_size, help="HxW that vae crops to; by default the clip's, cut to what the codecs take")
    which("--seed", type=int, help="seed that these clips were generated with; by default that of the items")
    how = group("how").add_argument
    how("--scorers", help="names between commas, nano, paper or available; by default what fits the items")
    how("--weights", type=Path, default=WEIGHTS, help=f"folder of weights ({WEIGHTS})")
    how("--inputs", type=Path, help="folder of anchor inputs: quick anchors that have not run yet run first")
    how("--verified", type=Path, default=VERIFIED, help="file of proofs that `idlora doctor` writes")
    how("--again", choices=get_args(Again), default="failed", help="which scores of the row are made anew")
    how("--training", type=Path, help="training set (shards, manifest or list): are its speakers others?")
    how("--processes", type=_positive, default=1, help="how many score at once; each holds all networks")
    how("--devices", type=_positive, help="score on so many devices with Lightning; for torchrun and SLURM, too")
    how("--accelerator", default="auto", help="cpu, gpu or auto, with --devices")
    return parser


def _name(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("must be the name of a row of the table; got an empty one")
    return text


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1; got '{text}'")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    return _positive(height), _positive(width)


def _usual(items: Sequence[Item]) -> str:
    """Return the scorers that fit the items: those of the nano world if all items are of it."""
    return "nano" if all(item.environment in ENVIRONMENTS for item in items) else "available"


def _sources(options: argparse.Namespace, items: Sequence[Item]) -> dict[str, ClipSource]:
    """Find the clips that the options choose."""
    bound, clips, method = options.bound, options.clips, options.method
    if method is not None and (clips is not None or bound is not None):
        raise ValueError("--method takes the clips that the manifest names; leave out --clips and --bound")
    if bound == "vae":
        if clips is None:
            raise ValueError("--bound vae writes the clips that it scores; give --clips FOLDER")
        from idlora_pl.evaluation.through_codecs import reconstructed

        return reconstructed(items, clips, options.base, options.base_weights, options.size)
    if bound is not None and clips is not None:
        raise ValueError(f"--bound {bound} scores real clips of the manifest; leave out --clips")
    if bound is not None:
        return bound_sources(items, bound, seed=options.bound_seed)
    return clip_sources(items, clips, method)


def _with_notes(options: argparse.Namespace, items: Sequence[Item], sources: dict[str, ClipSource]) -> list[Item]:
    """Return the items with the seed of their rows; tell and note who is in the training set."""
    real = options.clips is None or options.bound is not None
    leaked: set[str] = set()
    if options.training is not None:
        found = compare_speakers(items, options.training)
        Console(soft_wrap=True).print(found.sentence(), style="green" if found.is_shown else "red", markup=False)
        leaked = set(found.leaked)
    for item in items:
        if item.speaker in leaked:
            source = sources[item.id]
            sources[item.id] = replace(source, notes={**source.notes, "speaker_in_training": "yes"})
    if options.seed is None and not real:
        return list(items)
    return [replace(item, seed=options.seed) for item in items]


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
