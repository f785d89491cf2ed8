"""Show what a shard set holds, and check that it is whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from data_tools.shards.check import Fault, check_shard, draw, read_index
from data_tools.verb.command import run
from idlora_pl.data.samples import PairSample, ShardError
from idlora_pl.data.stream import ShardSet, open_shards
from idlora_pl.ltx2.presets import PresetName

if TYPE_CHECKING:
    from idlora_pl.generation.base_model import ClipCodecs

_MOST_FAULTS = 50


def every_sample(found: ShardSet, description: str) -> Iterator[PairSample]:
    """Read all samples, with a progress bar."""
    refs = [(shard, k) for shard, count in enumerate(found.index.counts) for k in range(count)]
    for _, sample in track(found.read(refs), description=description, total=len(refs)):
        yield sample


def overview(shards: str, found: ShardSet) -> Table:
    """Describe a set: shapes, precision and size of one sample, files, origin."""
    index = found.index
    table = Table("tensor", "shape", "precision", title=escape(f"{shards}: {index.n_samples} samples"))
    for name, shape in index.shapes.items():
        table.add_row(name, " x ".join(map(str, shape)), index.dtypes[name])
    table.add_section()
    megabytes = sum(shard.n_bytes for shard in index.shards) / 1e6
    table.add_row("files", f"{len(index.shards)} tars, {megabytes:.1f} MB", "")
    table.add_row("made with", index.codecs or "-", "")
    for name, value in index.settings.items():
        text = f"{len(value)} entries" if isinstance(value, dict | list) and len(value) > 4 else str(value)
        table.add_row(escape(name), escape(text), "")
    return table


def speakers_table(samples: Iterable[PairSample], n_examples: int) -> Table:
    """Count samples per speaker and show consent, pair and prompt of one sample of those with most."""
    counts: Counter[str] = Counter()
    shown: dict[str, PairSample] = {}
    for sample in samples:
        speaker = str(sample.meta.get("speaker") or "-")
        counts[speaker] += 1
        shown.setdefault(speaker, sample)
    columns = ("speaker", "samples", "consent", "reference of one", "prompt of one")
    table = Table(*columns, title=f"{len(counts)} speakers")
    for speaker, count in counts.most_common(n_examples):
        meta = shown[speaker].meta
        texts = [str(meta.get(name, "-")) for name in ("consent", "reference_key", "prompt")]
        table.add_row(escape(speaker), str(count), *map(escape, texts))
    return table


def refuse_faults(shards: str, console: Console) -> None:
    """Compare sizes and checksums, and decode every member; print what is wrong.

    Raises:
        ShardError: when something is.
    """
    folder = Path(shards)
    if not folder.is_dir():
        raise ShardError(f"{shards} is not a folder; --verify takes that of a shard set on disk")
    index = read_index(folder)
    faults: list[Fault] = []
    taken: dict[str, str] = {}
    for shard in track(index.shards, description="verifying"):
        faults += check_shard(folder, shard, index, taken)
    if not faults:
        console.print(f"verified: {len(index.shards)} checksums and {index.n_samples} samples")
        return
    table = Table("shard", "member", "reason", "found", title=f"{len(faults)} faults")
    for fault in faults[:_MOST_FAULTS]:
        table.add_row(*map(escape, (fault.shard, fault.member, fault.reason, fault.detail)))
    console.print(table)
    first = faults[0]
    raise ShardError(
        f"{len(faults)} faults in {shards}, first {first.shard} {first.member or 'as a whole'}: {first.reason} "
        f"({first.detail}); copy the set again or write it with data_tools.write_shards"
    )


def codecs_of(found: ShardSet, base: PresetName | None, weights: str | None) -> ClipCodecs | None:
    """Return the codecs to draw with: those asked for, those of a set whose codecs need no weights, or None."""
    made = found.index.codecs
    if base is None and made not in ("smoke", "nano"):
        return None
    from idlora_pl.generation.base_model import load_codecs  # loads diffusers, which takes seconds

    return load_codecs(made) if base is None else load_codecs(base, weights)  # type: ignore[arg-type]


def inspect_shard(
    shards: str,
    examples: int = 5,
    verify: bool = False,
    picture: str | None = None,
    sample: int = 0,
    base: PresetName | None = None,
    weights: str | None = None,
) -> None:
    """Show what a shard set holds.

    Args:
        shards: The folder of a shard set, or a brace pattern of its tar files.
        examples: How many speakers to list; 0 reads no sample.
        verify: Compare every checksum and look at every member; a fault ends with exit status 1.
        picture: A png file for one sample: frames and mels decoded from it, or its latents without codecs.
        sample: Number of the sample that is drawn.
        base: Base model whose codecs draw; by default that of the set if it needs no weights.
        weights: Its checkpoint.
    """
    console = Console()
    if verify:
        refuse_faults(shards, console)
    found = open_shards(shards)
    console.print(overview(shards, found))
    if examples:
        console.print(speakers_table(every_sample(found, "reading"), examples))
    if picture is not None:
        refs = [(shard, k) for shard, count in enumerate(found.index.counts) for k in range(count)]
        if not 0 <= sample < len(refs):
            raise ValueError(f"sample must be 0 to {len(refs) - 1}; got {sample}")
        codecs = codecs_of(found, base, weights)
        draw(next(found.read([refs[sample]]))[1], Path(picture), codecs)
        console.print(f"{'latents' if codecs is None else 'frames and sound'} of sample {sample} drawn in {picture}")


if __name__ == "__main__":
    run(inspect_shard)
