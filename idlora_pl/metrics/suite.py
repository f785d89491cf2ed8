"""All metrics of a table at once: one clip in, one row of ``scores.jsonl`` out."""

from collections.abc import Sequence

from torchmetrics import MetricCollection

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import ClipMean, ClipScore, Expected
from idlora_pl.metrics.embedders import EnvironmentClassifier, LipSyncEmbedder, SpeakerEmbedder, Transcriber
from idlora_pl.metrics.lips import LipSync
from idlora_pl.metrics.sounds import EnvironmentAccuracy
from idlora_pl.metrics.speaker import SpeakerSimilarity
from idlora_pl.metrics.words import TranscriptErrorRate

Scores = dict[str, float | None | dict[str, str]]


class ClipScorer:
    """Scores one clip at a time with several metrics.

    Args:
        metrics: The metrics; no two may have a name in common.

    Attributes:
        parts: The metrics, in order.
        metrics: A ``MetricCollection`` of them. It takes batches of tensors by keyword, holds the means of
            what ``update`` saw, and is reduced across processes by torchmetrics.
    """

    def __init__(self, metrics: Sequence[ClipMean]) -> None:
        names = [name for metric in metrics for name in metric.names]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"metrics must have distinct names and be at least one; got {names}")
        self.parts = tuple(metrics)
        # With compute groups, torchmetrics would merge metrics whose first states happen to be equal.
        self.metrics = MetricCollection({m.names[0]: m for m in metrics}, compute_groups=False)

    @classmethod
    def from_embedders(
        cls,
        *,
        speaker: SpeakerEmbedder | None = None,
        lip_sync: LipSyncEmbedder | None = None,
        transcriber: Transcriber | None = None,
        environment: EnvironmentClassifier | None = None,
        transcript_name: str = "phoneme_error_rate",
    ) -> "ClipScorer":
        """Build the metrics of the embedders that are given.

        Args:
            speaker: Speaker network, for ``speaker_similarity``.
            lip_sync: Two-stream network, for ``lip_sync``, ``lse_d``, ``lse_c`` and ``lip_offset``.
            transcriber: Recogniser, for the transcript error rate.
            environment: Environment network, for ``environment_accuracy``.
            transcript_name: Column name of the transcript error rate.
        """
        metrics: list[ClipMean] = []
        if speaker is not None:
            metrics.append(SpeakerSimilarity(speaker))
        if lip_sync is not None:
            metrics.append(LipSync(lip_sync))
        if transcriber is not None:
            metrics.append(TranscriptErrorRate(transcriber, name=transcript_name))
        if environment is not None:
            metrics.append(EnvironmentAccuracy(environment))
        return cls(metrics)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all scores of a row."""
        return tuple(name for metric in self.parts for name in metric.names)

    def score(self, clip: Clip, expected: Expected) -> Scores:
        """Score one clip.

        Returns:
            ``{name: value or None, ..., "reasons": {name: code}}``, with a code for each None.
        """
        return self._row([metric.score_clip(clip, expected) for metric in self.parts])

    def update(self, clip: Clip, expected: Expected) -> Scores:
        """Score one clip, count it into ``metrics``, and return its row."""
        scores = [metric.score_clip(clip, expected) for metric in self.parts]
        for metric, score in zip(self.parts, scores, strict=True):
            metric.accumulate(score)
        return self._row(scores)

    def _row(self, scores: Sequence[ClipScore]) -> Scores:
        row: Scores = {}
        reasons: dict[str, str] = {}
        for metric, score in zip(self.parts, scores, strict=True):
            row |= {name: score.values.get(name) for name in metric.names}
            reasons |= {name: score.reason_of(name) for name in metric.names if name not in score.values}
        return row | {"reasons": reasons}
