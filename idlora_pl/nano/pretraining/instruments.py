"""Make the instruments of the nano world: ``python -m idlora_pl.nano.pretraining.instruments --output DIR --seed 0``.

Trains them on rendered and decoded clips, and writes ``instruments.safetensors`` and the card ``INSTRUMENTS.md`` with
the errors on unseen speakers. Letters: B clips, D embedding size.
"""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch
import torch.nn.functional as F
from jsonargparse import auto_cli
from rich.progress import Progress, TimeElapsedColumn
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from idlora_pl.nano.codecs import ASSETS, NanoCodecs
from idlora_pl.nano.corpus import split_seed
from idlora_pl.nano.embedders import Instruments, load_instruments
from idlora_pl.nano.pretraining.checks import check
from idlora_pl.nano.pretraining.clips import InstrumentClips, Recipe, make_clips
from idlora_pl.nano.world import VOWELS

N_UNSEEN = 100
"""Speakers of the check."""


def card(settings: Mapping[str, str], results: Mapping[str, Mapping[str, float]]) -> str:
    """Return the card as Markdown: how the instruments were made, and their errors on unseen speakers."""
    lines = ["# Instruments of the nano world", "", "Written by the command below; do not edit.", ""]
    lines += [f"- {name}: {value}" for name, value in settings.items()]
    lines += ["", f"| unseen speakers | {' | '.join(results)} |", "| --- |" + " ---: |" * len(results)]
    for name in next(iter(results.values())):
        values = [result[name] for result in results.values()]
        lines.append(f"| {name} | {' | '.join(_cell(value) for value in values)} |")
    return "\n".join(lines) + "\n"


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def codecs_hash() -> str:
    """Return the first digits of the checksum of the codecs that rendered clips go through."""
    return sha256((ASSETS / "codecs.safetensors").read_bytes()).hexdigest()[:16]


def measured(instruments: Instruments, progress: Progress) -> dict[str, Mapping[str, float]]:
    """Check instruments on clips of unseen speakers, as rendered and after a round trip through the codecs."""
    unseen = split_seed("instruments_test", 0)
    strangers = range(unseen, unseen + N_UNSEEN)
    return {
        "rendered": check(instruments, rendered("check", strangers, Recipe(4, 0, video=True), progress)),
        "decoded": check(instruments, rendered("decoded check", strangers, Recipe(4, 1, video=True), progress)),
    }


def check_again(output: Path) -> None:
    """Check instruments that were trained before, for example after the codecs have changed, and renew their card."""
    path = output / "instruments.safetensors"
    with safe_open(path, "pt") as file:
        settings = dict(file.metadata())
    settings.pop("results")
    settings["checked with codecs"] = f"sha256 {codecs_hash()}"
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn()) as progress:
        results = measured(load_instruments(path), progress)
    write(output, load_file(path), settings, results)


def main(output: Path, seed: int = 0, n_speakers: int = 1200, steps: int = 300, only_check: bool = False) -> None:
    """Train and check the instruments.

    Args:
        output: Folder for ``instruments.safetensors`` and ``INSTRUMENTS.md``.
        seed: Seed of speakers, weights and batches.
        n_speakers: Training speakers with 3 clips of sound each; half of them have a clip with video too.
        steps: Training steps of the speaker and the phoneme network; the other two get half.
        only_check: Check what is in ``output`` again and renew the card, without training.
    """
    if only_check:
        check_again(output)
        return
    began, worked = time.monotonic(), time.process_time()
    first = split_seed("instruments", seed * n_speakers)
    speakers = range(first, first + n_speakers)
    plain = Recipe(3, 3, disturbed=True, seed=seed)
    video = Recipe(1, 2, disturbed=True, video=True, seed=seed)
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn()) as progress:
        sounds = rendered("sound", speakers, plain, progress)
        talking = rendered("sound and video", speakers[: n_speakers // 2], video, progress)
        instruments, losses = train(sounds, talking, steps=steps, seed=seed, progress=progress)
        seconds = f"{time.monotonic() - began:.0f} wall, {time.process_time() - worked:.0f} CPU, before the check"
        # The file holds half precision; what is checked is what is shipped.
        weights = {name: v.half() if v.is_floating_point() else v for name, v in instruments.weights().items()}
        instruments.load_state_dict(weights, strict=False)
        results = measured(instruments, progress)
    settings = {
        "command": f"`python -m idlora_pl.nano.pretraining.instruments --output {output} --seed {seed} "
        f"--n_speakers {n_speakers} --steps {steps}`",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "codecs": f"sha256 {codecs_hash()}",
        "seconds": seconds,
        "parameters": str(sum(p.numel() for p in instruments.parameters())),
        "training loss": ", ".join(f"{name} {value:.3f}" for name, value in losses.items()),
    }
    write(output, weights, settings, results)


def write(
    output: Path, weights: dict[str, Tensor], settings: dict[str, str], results: Mapping[str, Mapping[str, float]]
) -> None:
    """Write the weights, with settings and results as metadata, and the card beside them."""
    output.mkdir(parents=True, exist_ok=True)
    save_file(weights, output / "instruments.safetensors", metadata=settings | {"results": json.dumps(results)})
    (output / "INSTRUMENTS.md").write_text(card(settings, results))


def rendered(what: str, speakers: range, recipe: Recipe, progress: Progress) -> InstrumentClips:
    """Render the clips of speaker seeds, with a progress bar."""
    advance = partial(progress.track, description=f"render {what}")
    return make_clips(speakers, recipe, NanoCodecs(), advance=advance)


Loss = Callable[[torch.Generator], Tensor]


def speaker_loss(network: nn.Module, clips: InstrumentClips, generator: torch.Generator) -> Tensor:
    """Find the other clips of a speaker among those of 64 speakers, from one second of each.

    Supervised contrastive: the log-likelihood of each other clip of the speaker under a softmax over cosines.
    Where speakers have no end it learns faster than a classifier with one centre a speaker (EER 0.5 % after
    300 steps, 35 % after 200).
    """
    by_speaker = clips.speakers.argsort(stable=True).unflatten(0, (int(clips.speakers.max()) + 1, -1))
    chosen = by_speaker[torch.randperm(len(by_speaker), generator=generator)[:64]]
    batch = clips[chosen.flatten()]
    start = int(torch.randint(batch.mel.shape[-1] - 100, (), generator=generator))
    vectors = F.normalize(network(batch.mel[..., start : start + 100]), dim=-1)
    itself = torch.eye(len(vectors), dtype=torch.bool)
    others = (batch.speakers[:, None] == batch.speakers) & ~itself
    log_share = (10 * vectors @ vectors.T).masked_fill(itself, -1e4).log_softmax(-1)
    return -log_share[others].mean()


def phone_loss(network: nn.Module, clips: InstrumentClips, generator: torch.Generator) -> Tensor:
    """Name the vowel, or silence, of each 10 ms."""
    batch = clips.draw(48, generator)
    targets = torch.where(batch.phones < 0, len(VOWELS), batch.phones)
    return F.cross_entropy(network(batch.mel), targets)


def environment_loss(network: nn.Module, clips: InstrumentClips, generator: torch.Generator) -> Tensor:
    """Name the place."""
    batch = clips.draw(48, generator)
    return F.cross_entropy(network(batch.mel), batch.environments)


def lip_sync_loss(network: nn.Module, clips: InstrumentClips, generator: torch.Generator) -> Tensor:
    """Find the moment of a sound among the mouths of its clip, and the other way round."""
    batch = clips.draw(32, generator)
    audio, video = network(batch.mel, batch.mouths)
    logits = audio @ video.transpose(1, 2) / 0.07
    moments = torch.arange(logits.shape[1]).expand(logits.shape[:2])
    return F.cross_entropy(logits.transpose(1, 2), moments) + F.cross_entropy(logits, moments)


def fit(
    network: nn.Module,
    loss: Loss,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    advance: Callable[[], None],
) -> float:
    """Minimise a loss with AdamW and one cycle of the learning rate; returns the mean of the last 20."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps, pct_start=0.2)
    network.train()
    values = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(generator)
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        values.append(value.item())
        advance()
    network.eval()
    return sum(values[-20:]) / len(values[-20:])


def train(
    sounds: InstrumentClips, talking: InstrumentClips, *, steps: int, seed: int, progress: Progress
) -> tuple[Instruments, dict[str, float]]:
    """Train the four instruments one after the other.

    Args:
        sounds: Clips without video, for speaker, words and place.
        talking: Clips with video, for lip-sync.
        steps: Steps of the speaker and the phoneme network; the other two need half.
        seed: Seed of initial weights and batches.
        progress: Shows the steps.

    Returns:
        The instruments, and the final training loss of each.
    """
    torch.manual_seed(seed)
    instruments = Instruments()
    plans: dict[str, tuple[nn.Module, Loss, int]] = {
        "speaker": (instruments.speaker, partial(speaker_loss, instruments.speaker, sounds), steps),
        "transcriber": (instruments.transcriber, partial(phone_loss, instruments.transcriber, sounds), steps),
        "environment": (
            instruments.environment,
            partial(environment_loss, instruments.environment, sounds),
            steps // 2,
        ),
        "lip_sync": (instruments.lip_sync, partial(lip_sync_loss, instruments.lip_sync, talking), steps // 2),
    }
    losses = {}
    for name, (network, loss, n_steps) in plans.items():
        advance = partial(progress.advance, progress.add_task(f"train {name}", total=n_steps))
        losses[name] = fit(network, loss, steps=n_steps, learning_rate=3e-3, seed=seed, advance=advance)
    return instruments.eval(), losses


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
