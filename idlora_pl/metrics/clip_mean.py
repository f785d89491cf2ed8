"""One shape for every metric: a score per clip, and the mean over the clips that have one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torchmetrics import Metric

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.results.row import Curve

__all__ = ["ClipMean", "ClipScore", "Curve", "Expected", "mono", "scored"]


@dataclass(frozen=True)
class ClipScore:
    """The scores of one clip by name, and why those that are missing are missing.

    Attributes:
        values: The scores that there are.
        reason: Reason code of every name that is in neither `values` nor `reasons`.
        reasons: Reason codes of single names.
        curves: Scores over time by name; for pictures, never averaged.
        notes: What else the row should say, such as the crop that a scorer chose.
    """

    values: dict[str, float] = field(default_factory=dict)
    reason: str | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def reason_of(self, name: str) -> str:
        """Return why a name has no value.

        Raises:
            ValueError: There is no reason; a metric must give each of its names a value or a reason.
        """
        reason = self.reasons.get(name, self.reason)
        if reason is None:
            raise ValueError(f"{name} has neither a value nor a reason; the metric must give one of them")
        return reason


@dataclass(frozen=True)
class Expected:
    """What a clip should be like.

    Attributes:
        reference: (c, R) samples in [-1, 1] of another recording of the speaker; None if there is none.
        reference_rate_hz: Rate of the reference; None means the rate of the clip.
        words: Expected words (phonemes in the nano world), separated by spaces.
        environment: Expected environment name (nano world).
        target: The real clip that the prompt describes; None if there is none.
        sounds: The whole [SOUNDS] text of the prompt.
        environment_sounds: Text that describes what is heard behind the voice; "none" for nothing.
        speaking_style: Text that describes how is spoken.
        language: ISO 639-1 code of the words.
        reference_words: What the reference that the clip was generated from says; "" where it is not known.
    """

    reference: Tensor | None = None
    reference_rate_hz: int | None = None
    words: str = ""
    environment: str = ""
    target: Clip | None = None
    sounds: str = ""
    environment_sounds: str = ""
    speaking_style: str = ""
    language: str = "en"
    reference_words: str = ""


def mono(waveform: Tensor) -> Tensor:
    """Average the channels of a waveform (c, S) to (S,); no channels give no samples."""
    if waveform.ndim != 2:
        raise ValueError(f"waveform must be (c, S); got shape {tuple(waveform.shape)}")
    return waveform.mean(0) if len(waveform) else waveform.new_zeros(0)


def scored(compute: Callable[[], dict[str, float] | ClipScore]) -> ClipScore:
    """Run the scoring of one clip without gradients; an unscorable clip becomes a reason."""
    try:
        with torch.no_grad():
            found = compute()
    except Unscorable as fault:
        return ClipScore(reason=fault.reason)
    score = found if isinstance(found, ClipScore) else ClipScore(found)
    broken = {name for name, value in score.values.items() if not math.isfinite(value)}
    kept = {name: value for name, value in score.values.items() if name not in broken}
    return replace(score, values=kept, reasons=score.reasons | dict.fromkeys(broken, "score_not_finite"))


class ClipMean(Metric):
    """Mean of per-clip scores, with the number of clips behind it.

    ``compute`` returns ``{name: mean, "name/n_scored": int, "name/n_total": int}`` for each name; the mean
    is NaN when no clip could be scored. Sums are reduced across processes by torchmetrics. In a `MetricCollection`,
    say ``compute_groups=False``: torchmetrics would merge metrics whose first states happen to be equal.

    Args:
        names: Names of the scores, which are also the columns of the tables.
        kwargs: Passed to ``torchmetrics.Metric``.
    """

    distances: tuple[str, ...] = ()
    """Names of which the distance from zero is averaged, so that early and late do not cancel; tables do the same."""
    is_differentiable = False
    full_state_update = False
    totals: Tensor
    n_scored: Tensor
    n_total: Tensor

    def __init__(self, names: tuple[str, ...], **kwargs: bool) -> None:
        super().__init__(**kwargs)
        self.names = names
        self.add_state("totals", torch.zeros(len(names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("n_scored", torch.zeros(len(names), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("n_total", torch.tensor(0), dist_reduce_fx="sum")

    def score_clip(self, clip: Clip, expected: Expected) -> ClipScore:
        """Score one clip; each metric picks what it needs."""
        raise NotImplementedError(f"{type(self).__name__} must define score_clip")

    def update(self, clips: Clip | Sequence[Clip], expected: Expected | Sequence[Expected]) -> None:
        """Score clips and count their scores; one that cannot be scored counts in ``n_total`` alone.

        Args:
            clips: One clip, or several of any lengths and rates.
            expected: What each of them should be like, as many as clips.

        Raises:
            ValueError: There are not as many expectations as clips.
        """
        clips = [clips] if isinstance(clips, Clip) else list(clips)
        expected = [expected] if isinstance(expected, Expected) else list(expected)
        if len(clips) != len(expected):
            raise ValueError(f"expected must be one for each clip; got {len(expected)} for {len(clips)} clips")
        for score in [self.score_clip(clip, wish) for clip, wish in zip(clips, expected, strict=True)]:
            self._count(score)

    def _count(self, score: ClipScore) -> None:
        self.n_total += 1
        for index, name in enumerate(self.names):
            if name not in score.values:
                score.reason_of(name)
                continue
            value = score.values[name]
            self.n_scored[index] += 1
            self.totals[index] += abs(value) if name in self.distances else value

    def compute(self) -> dict[str, Tensor]:
        """Return mean, n_scored and n_total of each name.

        Raises:
            ValueError: No clip was given.
        """
        if self.n_total == 0:
            raise ValueError(f"{', '.join(self.names)}: no clip was given; call update before compute")
        means = self.totals / self.n_scored
        result: dict[str, Tensor] = {}
        for index, name in enumerate(self.names):
            result[name] = means[index]
            result[f"{name}/n_scored"] = self.n_scored[index]
            result[f"{name}/n_total"] = self.n_total
        return result
