"""The whole of ID-LoRA on the nano world, from nothing to a table: what `make demo` runs.

Every step is a command that a user could type; this file only orders them, two at a time, and shows one progress bar
for each. Speakers of training, validation and test are disjoint.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from idlora_pl.cli.command import call
from idlora_pl.cli.score import score
from idlora_pl.report.build import build_table
from idlora_pl.report.findings import Claim, with_findings
from idlora_pl.report.page.folder import write_page
from idlora_pl.report.table import Row
from idlora_pl.report.text import show, to_rich
from idlora_pl.report.write import write_tables
from idlora_pl.results.scores_file import located, read_scores

HERE = Path(__file__).parent
METRICS = ("speaker_similarity", "reference_word_leak", "lip_sync", "phoneme_error_rate", "environment_accuracy")
CODECS = "through the codecs"
ROWS = ("no_reference", "shared", "negative", "negative+identity", CODECS, "real")
PAIRED = (
    ("negative", "no_reference"),
    ("shared", "no_reference"),
    ("negative", "shared"),
    ("negative+identity", "negative"),
)
CLAIMS = (
    Claim("negative", "no_reference", "speaker_similarity"),
    Claim("negative", "shared", "speaker_similarity"),
    Claim("negative", "shared", "phoneme_error_rate", only_not_worse=True),
    Claim("negative+identity", "negative", "speaker_similarity"),
    Claim("negative+identity", "negative", "phoneme_error_rate", only_not_worse=True),
)
"""What users expect of the method, and what the demo therefore has to answer, whatever comes out."""

ARMS = {"negative": [], "shared": ["-c", str(HERE / "ablations/shared_positions.yaml")]}


@dataclass(frozen=True)
class Size:
    """How large a demo is."""

    train_speakers: int
    test_speakers: int
    steps: int


FULL, QUICK = Size(1500, 96, 300), Size(160, 12, 20)


@dataclass(frozen=True)
class Job:
    """One command with a way to see how far it is.

    Attributes:
        label: What its progress bar says.
        command: Arguments of the `idlora` command.
        total: How much there is to do.
        watch: A csv whose lines hold the step last (training), or a folder of clips (sampling).
    """

    label: str
    command: list[str]
    total: int
    watch: Path

    def done(self) -> int:
        """How much is done."""
        if self.watch.suffix == ".csv":
            return _last_step(self.watch)
        return len(list(self.watch.glob("[!.]*.mp4")))


def _last_step(path: Path) -> int:
    """Read the highest training step of a metrics.csv that is being written."""
    if not path.is_file():
        return 0
    header, *lines = path.read_text().splitlines() or [""]
    if "step" not in header.split(","):
        return 0
    column = header.split(",").index("step")
    steps = [line.split(",")[column] for line in lines if line.count(",") >= column]
    return max((int(step) + 1 for step in steps if step.isdigit()), default=0)


def run_jobs(jobs: list[Job], logs: Path) -> None:
    """Run jobs two at a time, one thread each; a job that fails ends the demo with its last words."""
    waiting, running = list(jobs), dict[TaskID, tuple[Job, subprocess.Popen[bytes], Path]]()
    columns = (
        TextColumn("{task.description:32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        while waiting or running:
            while waiting and len(running) < 2:
                job = waiting.pop(0)
                log = logs / f"{job.label.replace(' ', '_')}.log"
                running[progress.add_task(job.label, total=job.total)] = (job, _start(job, log), log)
            time.sleep(0.5)
            for task, (job, process, log) in list(running.items()):
                progress.update(task, completed=job.done())
                if process.poll() is None:
                    continue
                if process.returncode:
                    for _, other, _ in running.values():
                        other.kill()
                    sys.exit(f"demo: '{job.label}' failed; see {log}:\n" + log.read_text()[-2000:])
                progress.update(task, completed=job.total)
                del running[task]


def _start(job: Job, log: Path) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with open(log, "wb") as file:
        command = [sys.executable, "-m", "idlora_pl.cli", *job.command]
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)


def training_jobs(output: Path, size: Size) -> list[Job]:
    """The two trainings that differ in one key."""
    jobs = []
    for arm, overlay in ARMS.items():
        run = output / arm
        options = {
            "run": run, "data.shards": output / "data/train", "data.val_shards": output / "data/validation",
            "trainer.max_steps": size.steps, "trainer.val_check_interval": max(10, size.steps // 3),
            "trainer.enable_progress_bar": "false", "trainer.enable_model_summary": "false",
        }  # fmt: skip
        command = ["fit", "-c", str(HERE / "nano.yaml"), *overlay, *_flags(options)]
        jobs.append(Job(f"training {arm}", command, size.steps, run / "metrics.csv"))
    return jobs


def sampling_jobs(output: Path, size: Size) -> list[Job]:
    """One sampling run for each generated row of the table."""
    guided = ["-c", str(HERE / "sampling/identity_guidance.yaml")]
    adapters = {arm: output / arm / "adapter.safetensors" for arm in ARMS}
    rows: dict[str, tuple[list[str], dict[str, object]]] = {
        "no_reference": ([], {"model.use_adapter": "false", "model.sampling.with_reference": "false"}),
        "shared": ([], {"model.adapter": adapters["shared"]}),
        "negative": ([], {"model.adapter": adapters["negative"]}),
        "negative+identity": (guided, {"model.adapter": adapters["negative"]}),
    }
    jobs = []
    for row, (overlay, options) in rows.items():
        run = output / "sampling" / row
        options = options | {
            "run": run, "data.prompts": output / "data/test/prompts.json",
            "data.batch_size": 16, "trainer.enable_progress_bar": "false",
        }  # fmt: skip
        command = ["predict", "-c", str(HERE / "nano.yaml"), *overlay, *_flags(options)]
        jobs.append(Job(f"sampling {row}", command, size.test_speakers, run / "clips"))
    return jobs


def _flags(options: dict[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def demo(*, quick: bool = False, output: Path | None = None) -> None:
    """Run the whole of ID-LoRA on the nano world, from nothing to a table.

    Args:
        quick: A few steps on a few speakers: the path, not a result.
        output: Folder to write; runs/demo, or runs/quick.
    """
    size = QUICK if quick else FULL
    output = output or Path("runs/quick" if quick else "runs/demo")
    if output.exists() and any(output.iterdir()):
        sys.exit(f"demo: {output} holds an earlier demo; remove it or give --output another folder")
    seconds: dict[str, float] = {}

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        seconds[name] = round(time.monotonic() - start, 1)

    with phase("data"):
        speakers = [f"--train_speakers={size.train_speakers}", f"--test_speakers={size.test_speakers}"]
        subprocess.run([sys.executable, "-m", "idlora_pl.nano.dataset", str(output / "data"), *speakers], check=True)
    with phase("training"):
        run_jobs(training_jobs(output, size), output / "logs")
    with phase("sampling"):
        run_jobs(sampling_jobs(output, size), output / "logs")
    with phase("scoring"):
        for row in ROWS:
            score(
                output / "data/test/prompts.json",
                row=row,
                scores=output / "scores.jsonl",
                clips=None if row == "real" else output / "sampling" / row.replace(" ", "_") / "clips",
                bound="vae" if row == CODECS else None,
                base="nano",
                scorers="nano",
            )
    report(output, size, seconds)


def report(output: Path, size: Size, seconds: dict[str, float]) -> None:
    """Build, print and write the table."""
    scores = read_scores(output / "scores.jsonl")
    trained = f"LoRA of {size.steps} steps on {size.train_speakers} speakers"
    caption = f"nano world, {size.test_speakers} unseen speakers, {trained}"
    table = build_table(scores, [Row(name) for name in ROWS], METRICS, PAIRED, seconds=seconds, caption=caption)
    table = with_findings(table, CLAIMS)
    rows = located(scores, output)
    console = Console()
    show(to_rich(table, console.width), console)
    for path in (*write_tables(table, output), write_page(table, rows, output / "page")):
        console.print(f"wrote {path}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    call(demo, sys.argv[1:], prog="demo")
