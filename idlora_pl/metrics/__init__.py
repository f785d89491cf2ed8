"""Metrics of generated clips as torchmetrics ``Metric``s over tensors; networks come in as arguments."""

from idlora_pl.metrics.clip_mean import ClipMean, ClipScore, Curve, Expected
from idlora_pl.metrics.embedders import (
    AudioTextEmbedder,
    EnvironmentClassifier,
    FaceEmbedder,
    LipSyncEmbedder,
    SpeakerEmbedder,
    Transcriber,
)
from idlora_pl.metrics.environment import EnvironmentAccuracy
from idlora_pl.metrics.lip_sync import LipSync
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.metrics.speaker import SpeakerSimilarity
from idlora_pl.metrics.suite import ClipScorer
from idlora_pl.metrics.transcript import TranscriptErrorRate

__all__ = [
    "AudioTextEmbedder",
    "ClipMean",
    "ClipScore",
    "ClipScorer",
    "Curve",
    "EnvironmentAccuracy",
    "EnvironmentClassifier",
    "Expected",
    "FaceEmbedder",
    "LipSync",
    "LipSyncEmbedder",
    "SpeakerEmbedder",
    "SpeakerSimilarity",
    "TranscriptErrorRate",
    "Transcriber",
    "Unscorable",
]
