"""Trains the instruments of the nano world on rendered and decoded clips.

Letters: B clips, D embedding size.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from rich.progress import Progress
from torch import Tensor, nn

from idlora_pl.nano.embedders import Instruments
from idlora_pl.nano.instruments.clips import InstrumentClips
from idlora_pl.nano.world import VOWELS

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
