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


class MarginHead(nn.Module):
    """Cosine classifier over the training speakers with an additive margin; thrown away after training."""

    margin = 0.2
    scale = 30.0

    def __init__(self, n_speakers: int, size: int = 64) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(n_speakers, size))

    def forward(self, embeddings: Tensor, speakers: Tensor) -> Tensor:
        """Return the loss of embeddings (B, D) of speakers (B,)."""
        cosines = F.normalize(embeddings, dim=-1) @ F.normalize(self.centres, dim=-1).T
        margins = self.margin * F.one_hot(speakers, len(self.centres))
        return F.cross_entropy(self.scale * (cosines - margins), speakers)


def speaker_loss(
    network: nn.Module, head: MarginHead, clips: InstrumentClips, generator: torch.Generator
) -> Tensor:
    """Tell the training speakers apart from one second of each clip."""
    batch = clips.draw(128, generator)
    start = int(torch.randint(batch.mel.shape[-1] - 100, (), generator=generator))
    return head(network(batch.mel[..., start : start + 100]), batch.speakers)


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
    parts: nn.Module, loss: Loss, *, steps: int, learning_rate: float, seed: int, advance: Callable[[], None]
) -> float:
    """Minimise a loss with AdamW and one cycle of the learning rate; returns the mean of the last 20."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(parts.parameters(), lr=learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps, pct_start=0.2)
    parts.train()
    values = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(generator)
        value.backward()
        nn.utils.clip_grad_norm_(parts.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        values.append(value.item())
        advance()
    parts.eval()
    return sum(values[-20:]) / len(values[-20:])


def train(
    sounds: InstrumentClips, talking: InstrumentClips, *, steps: int, seed: int, progress: Progress
) -> tuple[Instruments, dict[str, float]]:
    """Train the four instruments one after the other.

    Args:
        sounds: Clips without video, for speaker, words and place.
        talking: Clips with video, for lip-sync.
        steps: Steps of the speaker network; the others need fewer.
        seed: Seed of initial weights and batches.
        progress: Shows the steps.

    Returns:
        The instruments, and the final training loss of each.
    """
    torch.manual_seed(seed)
    instruments, head = Instruments(), MarginHead(int(sounds.speakers.max()) + 1)
    parts: dict[str, tuple[nn.Module, Loss, int]] = {
        "speaker": (
            nn.ModuleList([instruments.speaker, head]),
            partial(speaker_loss, instruments.speaker, head, sounds),
            steps,
        ),
        "transcriber": (
            instruments.transcriber,
            partial(phone_loss, instruments.transcriber, sounds),
            steps // 2,
        ),
        "environment": (
            instruments.environment,
            partial(environment_loss, instruments.environment, sounds),
            steps // 3,
        ),
        "lip_sync": (instruments.lip_sync, partial(lip_sync_loss, instruments.lip_sync, talking), steps),
    }
    losses = {}
    for name, (part, loss, n_steps) in parts.items():
        task = progress.add_task(f"train {name}", total=n_steps)
        losses[name] = fit(
            part, loss, steps=n_steps, learning_rate=3e-3, seed=seed, advance=partial(progress.advance, task)
        )
    return instruments.eval(), losses
