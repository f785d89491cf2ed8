"""ID-LoRA for LTX-2: a talking clip from a face, a few seconds of a voice and a prompt.

The public names resolve on first use, so `import idlora_pl` loads no torch, diffusers, transformers or wandb.
"""

import importlib

__version__ = "0.1.0"

_HOME = {
    "AVSequence": "idlora_pl.method.tokens",
    "Clip": "idlora_pl.media.clip",
    "Codecs": "idlora_pl.ltx2.codecs",
    "IDLoRA": "idlora_pl.training.module",
    "IDLoRAPipeline": "idlora_pl.generation.pipeline",
    "IdentityGuidance": "idlora_pl.method.guidance",
    "InContext": "idlora_pl.method.in_context",
    "LTX2": "idlora_pl.ltx2.transformer",
    "LipSync": "idlora_pl.metrics.lips",
    "ModalityGuidance": "idlora_pl.method.guidance",
    "PairedClips": "idlora_pl.data.datamodule",
    "PerturbedGuidance": "idlora_pl.method.guidance",
    "SpeakerSimilarity": "idlora_pl.metrics.speaker",
    "TextGuidance": "idlora_pl.method.guidance",
    "Tokens": "idlora_pl.method.tokens",
    "attach_lora": "idlora_pl.ltx2.lora",
    "build_table": "idlora_pl.report.build",
    "read_clip": "idlora_pl.media.reading",
    "sample_euler": "idlora_pl.method.sampler",
    "write_clip": "idlora_pl.media.writing",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> object:
    """Import a public name from its home on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'idlora_pl' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Names that completion offers."""
    return sorted(__all__)
