"""Metrics of generated clips as torchmetrics ``Metric``s over tensors; networks come in as arguments.

The names resolve on first use: what needs one function of a module here does not wait for torchmetrics.
"""

import importlib
from typing import Any

_HOME = {
    "AudioTextEmbedder": "embedders",
    "ClipMean": "clip_mean",
    "ClipScore": "clip_mean",
    "ClipScorer": "suite",
    "Curve": "clip_mean",
    "EnvironmentAccuracy": "sounds",
    "EnvironmentClassifier": "embedders",
    "Expected": "clip_mean",
    "FaceEmbedder": "embedders",
    "LipSync": "lips",
    "LipSyncEmbedder": "embedders",
    "ReferenceWordLeak": "words",
    "SpeakerEmbedder": "embedders",
    "SpeakerSimilarity": "speaker",
    "TranscriptErrorRate": "words",
    "Transcriber": "embedders",
    "Unscorable": "clip_mean",
}

__all__ = list(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'idlora_pl.metrics' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"idlora_pl.metrics.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Names that completion offers."""
    return sorted(__all__)
