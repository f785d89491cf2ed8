"""One shape for every metric: a score per clip, and the mean over the clips that have one."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchmetrics import Metric

from idlora_pl.media import Clip
from idlora_pl.metrics.scorable import Unscorable


@dataclass(frozen=True)
class ClipScore:
    """The scores of one clip by name, or the reason why it has none."""

    values: dict[str, float] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True)
class Expected:
    """What a clip should be like.

    Attributes:
        reference: (c, R) samples in [-1, 1] of another recording of the speaker; None if there is none.
        reference_rate_hz: Rate of the reference; None means the rate of the clip.
        words: Expected words (phonemes in the nano world), separated by spaces.
        environment: Expected environment name.
    """

    reference: Tensor | None = None
    reference_rate_hz: int | None = None
    words: str = ""
    environment: str = ""


def mono(waveform: Tensor) -> Tensor:
    """Average the channels of a waveform (c, S) to (S,); no channels give no samples."""
    if waveform.ndim != 2:
        raise ValueError(f"waveform must be (c, S); got shape {tuple(waveform.shape)}")
    return waveform.mean(0) if len(waveform) else waveform.new_zeros(0)


def scored(compute: Callable[[], dict[str, float]]) -> ClipScore:
    """Run the scoring of one clip without gradients; an unscorable clip becomes a reason."""
    try:
        with torch.no_grad():
            values = compute()
    except Unscorable as fault:
        return ClipScore(reason=fault.reason)
    if not all(math.isfinite(value) for value in values.values()):
        return ClipScore(reason="score_not_finite")
    return ClipScore(values)


class ClipMean(Metric):
    """Mean of per-clip scores, with the number of clips behind it.

    ``compute`` returns ``{name: mean, "name/n_scored": int, "name/n_total": int}`` for each name; the mean
    is NaN when no clip could be scored. Sums are reduced across processes by torchmetrics.

    Args:
        names: Names of the scores, which are also the columns of the tables.
        kwargs: Passed to ``torchmetrics.Metric``.
    """

    is_differentiable = False
    full_state_update = False
    totals: Tensor
    n_scored: Tensor
    n_total: Tensor

    def __init__(self, names: tuple[str, ...], **kwargs: bool) -> None:
        super().__init__(**kwargs)
        self.names = names
        self.add_state("totals", torch.zeros(len(names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("n_scored", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("n_total", torch.tensor(0), dist_reduce_fx="sum")

    def score_clip(self, clip: Clip, expected: Expected) -> ClipScore:
        """Score one clip; each metric picks what it needs."""
        raise NotImplementedError(f"{type(self).__name__} must define score_clip")

    def add(self, scores: Iterable[ClipScore]) -> None:
        """Count scores into the state; called by ``update`` of each metric."""
        for score in scores:
            self.n_total += 1
            if score.reason is None:
                self.n_scored += 1
                self.totals += torch.tensor([score.values[name] for name in self.names]).to(self.totals)

    def accumulate(self, score: ClipScore) -> None:
        """Count one score that was computed by ``score``, so that no network runs twice."""
        self._computed = None
        self._update_count += 1
        self.add([score])

    def compute(self) -> dict[str, Tensor]:
        """Return mean, n_scored and n_total of each name.

        Raises:
            ValueError: No clip was given.
        """
        if self.n_total == 0:
            raise ValueError(f"{', '.join(self.names)}: no clip was given; call update before compute")
        counts = {"n_scored": self.n_scored, "n_total": self.n_total}
        means = self.totals / self.n_scored
        result = {name: means[i] for i, name in enumerate(self.names)}
        return result | {f"{name}/{key}": count for name in self.names for key, count in counts.items()}
