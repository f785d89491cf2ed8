"""Environment accuracy: is the place that the prompt names the place that is heard?"""

from collections.abc import Sequence

from torch import Tensor

from idlora_pl.media import Clip
from idlora_pl.metrics.clip_mean import ClipMean, ClipScore, Expected, mono, scored
from idlora_pl.metrics.embedders import EnvironmentClassifier
from idlora_pl.metrics.scorable import Unscorable, check_waveform


class EnvironmentAccuracy(ClipMean):
    """Share of clips whose heard environment is the expected one.

    Args:
        classifier: The environment network.
        name: Column name.
        kwargs: Passed to ``torchmetrics.Metric``.
    """

    higher_is_better = True

    def __init__(
        self, classifier: EnvironmentClassifier, *, name: str = "environment_accuracy", **kwargs: bool
    ) -> None:
        super().__init__((name,), **kwargs)
        self.classifier = classifier

    def score(self, waveform: Tensor, environment: str, *, sample_rate_hz: int) -> ClipScore:
        """Score one clip: 1.0 when waveform (S,) in [-1, 1] sounds like the environment, else 0.0."""

        def hit() -> dict[str, float]:
            if not environment:
                raise Unscorable("no_expected_environment")
            voice = check_waveform(waveform, sample_rate_hz)
            (heard,) = self.classifier.classify(voice[None], sample_rate_hz)
            return {self.names[0]: float(heard == environment)}

        return scored(hit)

    def score_clip(self, clip: Clip, expected: Expected) -> ClipScore:
        """Score one clip against the expected place; without one it is ``no_expected_environment``."""
        return self.score(mono(clip.waveform), expected.environment, sample_rate_hz=clip.sample_rate_hz)

    def update(self, waveform: Tensor, environment: Sequence[str], *, sample_rate_hz: int) -> None:
        """Count waveforms (B, S) against B names."""
        if waveform.ndim != 2 or isinstance(environment, str) or len(waveform) != len(environment):
            count = "one string" if isinstance(environment, str) else f"{len(environment)} names"
            raise ValueError(
                f"waveform must be (B, S) with B environment names; got {tuple(waveform.shape)} and {count}"
            )
        self.add(
            self.score(one, name, sample_rate_hz=sample_rate_hz)
            for one, name in zip(waveform, environment, strict=True)
        )
