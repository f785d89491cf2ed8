"""How fast a worker reads shards, and how long training waits for them.

    python experiments/bench_streaming.py                # both, about three minutes on two CPU cores
    python experiments/bench_streaming.py --only rate --repeats 40

Prints medians over repeats that take turns, each with the 95 % interval of the median; docs/streaming.md has the
numbers. On a machine that does other work, too, CPU time says more than the clock does.
"""

import logging
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import lightning as L
import torch
import webdataset as wds
from lightning.pytorch.profilers import SimpleProfiler
from rich.console import Console
from rich.table import Table
from safetensors.torch import load
from scipy.stats import binom

from idlora_pl.cli.command import call
from idlora_pl.data.datamodule import PairedClips
from idlora_pl.data.samples import PairSample
from idlora_pl.data.shards import write_shards
from idlora_pl.data.stream import ShardSet, open_shards
from idlora_pl.generation.sampling import default_sampling
from idlora_pl.method.tokens import TextFeatures
from idlora_pl.nano.dataset import write_pairs
from idlora_pl.training.module import IDLoRA
from idlora_pl.training.optimizer import AdamW

WAITING, TRAINING = "[_TrainingEpochLoop].train_dataloader_next", "run_training_epoch"


def full_size(n_samples: int) -> Iterator[PairSample]:
    """Samples of noise in the shapes of ltx2-19b: 512x512, 121 frames, 4.84 s of voice; 9 MB each."""
    for k in range(n_samples):
        rng = torch.Generator().manual_seed(k)
        prompt = torch.randn(1024, 3840, generator=rng).bfloat16()
        yield PairSample(
            target_video=torch.randn(128, 16, 16, 16, generator=rng).bfloat16(),
            target_audio=torch.randn(8, 121, 16, generator=rng),
            reference=torch.randn(8, 121, 16, generator=rng),
            text=TextFeatures(prompt, prompt, torch.ones(1024, dtype=torch.bool)),
            meta={"key": f"pair{k:04d}", "speaker": f"s{k % 7}", "prompt": "[VISUAL]: Noise. [SPEECH]: - [SOUNDS]: -"},
        )


def read_tars(found: ShardSet) -> None:
    """Read every member of every tar and do nothing with it: the standard library alone."""
    for url in found.urls:
        with tarfile.open(url, "r:") as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                file.read()


def read_samples(found: ShardSet) -> None:
    """Read and decode every sample, as a worker does."""
    every = [(shard, k) for shard, count in enumerate(found.index.counts) for k in range(count)]
    for _ in found.read(every):
        pass


def read_with_webdataset(found: ShardSet) -> None:
    """Read every sample with webdataset and safetensors as they are."""
    for item in wds.WebDataset(list(found.urls), shardshuffle=False):
        load(item["latents.safetensors"])


def median(values: list[float]) -> tuple[float, float, float]:
    """Return the median and the ends of its 95 % interval, from order statistics; the range of fewer than six."""
    ordered, n = sorted(values), len(values)
    low = int(binom.ppf(0.025, n, 0.5))
    return ordered[n // 2], ordered[max(0, low - 1)], ordered[min(n - 1, n - low)]


def measure_rate(folder: Path, n_samples: int, repeats: int) -> Table:
    """Compare the three ways to read the same bytes; they take turns, and every turn gives one ratio."""
    write_shards(full_size(n_samples), folder, samples_per_shard=max(1, n_samples // 2), codecs="noise")
    found = open_shards(str(folder))
    gigabytes = sum(shard.n_bytes for shard in found.index.shards) / 1e9
    ways: dict[str, Callable[[ShardSet], None]] = {
        "tarfile, every member read": read_tars,
        "PairedClips, read and decoded": read_samples,
        "webdataset and safetensors.load": read_with_webdataset,
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            cpu, clock = time.process_time(), time.perf_counter()
            way(found)
            if turn:  # the first one fills the page cache
                taken[name].append((time.process_time() - cpu, time.perf_counter() - clock))
    table = Table("way", title=f"{n_samples} samples, {gigabytes:.2f} GB, {repeats} turns")
    for unit in ("CPU second", "second by the clock"):
        table.add_column(f"GB per {unit}")
        table.add_column("share of tarfile")
    base = taken["tarfile, every member read"]
    for name, seconds in taken.items():
        cells = []
        for k in (0, 1):
            rate = median([gigabytes / turn[k] for turn in seconds])
            share = median([one[k] / other[k] for one, other in zip(base, seconds, strict=True)])
            cells += ["{:.2f} ({:.2f} to {:.2f})".format(*rate), "{:.0%} ({:.0%} to {:.0%})".format(*share)]
        table.add_row(name, *cells)
    return table


class QuietProfiler(SimpleProfiler):
    """Lightning's profiler without its report."""

    def summary(self) -> str:
        """Say nothing."""
        return ""


def share_of_waiting(folder: Path, n_workers: int, n_steps: int) -> tuple[float, float, float]:
    """Train the nano base; return the share of time spent waiting for batches, and seconds per step.

    The wait for the first batch of the run, while workers start, is left out: it comes once.
    """
    profiler = QuietProfiler()
    module = IDLoRA(
        base="nano",
        optimizer=AdamW(learning_rate=2e-3, state_bits="32"),
        sampling=default_sampling("nano"),
        gradient_checkpointing=False,
    )
    L.Trainer(
        accelerator="cpu",
        max_steps=n_steps,
        logger=False,
        profiler=profiler,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, datamodule=PairedClips(str(folder), batch_size=8, num_workers=n_workers))
    first, *waits = profiler.recorded_durations[WAITING]
    seconds = sum(profiler.recorded_durations[TRAINING]) - first
    return sum(waits) / seconds, seconds / n_steps, first


def measure_waiting(folder: Path, n_steps: int, repeats: int) -> Table:
    """Measure for some numbers of workers, which take turns."""
    write_pairs(folder, "train", 48)
    table = Table(
        "workers",
        "share of time waiting",
        "s per step",
        "s for the first batch",
        title=f"nano, batches of 8, {n_steps} steps",
    )
    taken: dict[int, list[tuple[float, float, float]]] = {0: [], 1: [], 2: []}
    for _ in range(repeats):
        for n_workers, found in taken.items():
            found.append(share_of_waiting(folder, n_workers, n_steps))
    for n_workers, found in taken.items():
        share, seconds, first = (median([turn[k] for turn in found]) for k in range(3))
        cells = "{:.2%} ({:.2%} to {:.2%})".format(*share), f"{seconds[0]:.2f}", f"{first[0]:.2f}"
        table.add_row(str(n_workers), *cells)
    return table


def bench_streaming(
    *, only: Literal["rate", "waiting"] | None = None, samples: int = 32, steps: int = 24, repeats: int = 20
) -> None:
    """Measure how fast samples are read, and how long a training waits for them.

    Args:
        only: One of the two.
        samples: How many are read, of 9 MB each.
        steps: Of the training.
        repeats: Turns of each way to read.
    """
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    console = Console(soft_wrap=True)
    with tempfile.TemporaryDirectory() as work:
        if only != "waiting":
            console.print(measure_rate(Path(work, "full"), samples, repeats))
        if only != "rate":
            console.print(measure_waiting(Path(work, "nano"), steps, min(5, repeats)))


if __name__ == "__main__":
    call(bench_streaming, sys.argv[1:], prog="bench_streaming")
