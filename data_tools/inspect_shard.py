"""Show what a shard set holds, and check that it is whole."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import matplotlib
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from data_tools.command import run
from idlora_pl.data.samples import PairSample, ShardError
from idlora_pl.data.shards import sha256_of
from idlora_pl.data.stream import ShardSet, open_shards


def every_sample(found: ShardSet, description: str) -> Iterator[PairSample]:
    """Read all samples, with a progress bar."""
    refs = [(shard, k) for shard, count in enumerate(found.index.counts) for k in range(count)]
    for _, sample in track(found.read(refs), description=description, total=len(refs)):
        yield sample


def overview(shards: str, found: ShardSet) -> Table:
    """Describe a set: shapes, precision and size of one sample, files, origin."""
    index = found.index
    table = Table("tensor", "shape", "precision", title=f"{shards}: {index.n_samples} samples")
    for name, shape in index.shapes.items():
        table.add_row(name, " x ".join(map(str, shape)), index.dtypes[name])
    table.add_section()
    megabytes = sum(shard.n_bytes for shard in index.shards) / 1e6
    table.add_row("files", f"{len(index.shards)} tars, {megabytes:.1f} MB", "")
    table.add_row("made with", index.codecs or "-", "")
    for name, value in index.settings.items():
        table.add_row(name, str(value), "")
    return table


def speakers_table(samples: Iterable[PairSample], n_examples: int) -> Table:
    """Count samples per speaker and show a prompt of those with most samples."""
    counts: Counter[str] = Counter()
    prompts: dict[str, str] = {}
    for sample in samples:
        speaker = str(sample.meta.get("speaker") or "-")
        counts[speaker] += 1
        prompts.setdefault(speaker, str(sample.meta.get("prompt", "-")))
    table = Table("speaker", "samples", "prompt of one of them", title=f"{len(counts)} speakers")
    for speaker, count in counts.most_common(n_examples):
        table.add_row(speaker, str(count), prompts[speaker])
    return table


def refuse_faults(found: ShardSet) -> None:
    """Compare checksums and decode every sample.

    Raises:
        ShardError: when a checksum differs, a sample cannot be decoded, has another shape, or is not finite.
    """
    for url, shard in track(list(zip(found.urls, found.index.shards, strict=True)), description="checksums"):
        if sha256_of(Path(url)) != shard.sha256:
            raise ShardError(f"{url} has another sha256 than index.json says; copy it again or write it again")
    for sample in every_sample(found, "samples"):
        for name, tensor in sample.tensors().items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise ShardError(f"clip {sample.key} has {name} that is not finite; encode it again")


def draw(sample: PairSample, path: Path) -> None:
    """Draw the latents of one sample: a map of channels over time for each of the three tensors."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    maps = {
        "target_video (mean over rows and columns)": sample.target_video.float().mean((2, 3)),
        "target_audio": sample.target_audio.float().transpose(1, 2).flatten(0, 1),
        "reference": sample.reference.float().transpose(1, 2).flatten(0, 1),
    }
    figure, axes = pyplot.subplots(len(maps), 1, figsize=(8, 8), layout="constrained")
    for axis, (title, values) in zip(axes, maps.items(), strict=True):
        picture = axis.imshow(values, aspect="auto", interpolation="nearest", cmap="RdBu", vmin=-3, vmax=3)
        axis.set(title=title, xlabel="latent time step", ylabel="channel")
        figure.colorbar(picture, ax=axis)
    figure.suptitle(sample.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
    pyplot.close(figure)


def inspect_shard(shards: str, examples: int = 5, verify: bool = False, picture: str | None = None) -> None:
    """Show what a shard set holds.

    Args:
        shards: The folder of a shard set, or a brace pattern of its tar files.
        examples: How many speakers to list; 0 reads no sample.
        verify: Compare every checksum and decode every sample; a fault ends with exit status 1.
        picture: A png file for a map of the first sample's latents.
    """
    found = open_shards(shards)
    console = Console()
    console.print(overview(shards, found))
    if examples:
        console.print(speakers_table(every_sample(found, "reading"), examples))
    if picture is not None:
        draw(next(found.read([(0, 0)]))[1], Path(picture))
        console.print(f"latents of the first sample drawn in {picture}")
    if verify:
        refuse_faults(found)
        console.print(f"verified: {len(found.urls)} checksums and {found.index.n_samples} samples")


if __name__ == "__main__":
    run(inspect_shard)
