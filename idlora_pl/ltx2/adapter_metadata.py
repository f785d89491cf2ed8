"""The header of an adapter file: what it says about itself, and what other programs say in theirs."""

import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import idlora_pl
from idlora_pl.files import parsed_json, read_text
from idlora_pl.ltx2.adapter_format import AdapterStyle, LoRA

AI_LABEL = "AI-generated: clips made with this adapter show synthetic faces, voices and words; label them as such."
"""Every adapter file carries this as `ai_label`."""

UNKNOWN_CONSENT = "unknown"
"""`consent` of a file whose training data told nothing about it."""

PEFT_ENTRY = "lora_adapter_metadata"
"""Header entry in which diffusers keeps the peft configuration, as JSON."""

FOLDED = "folded"
_UNSUPPORTED = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias")
_ROOT = Path(idlora_pl.__file__).parents[1]


def own_entries(base_model: str, lora: LoRA, metadata: Mapping[str, str]) -> dict[str, str]:
    """Complete what an adapter file says about itself.

    Args:
        base_model: preset name.
        lora: its size.
        metadata: entries of the caller, such as the recipe; base model, rank, alpha and targets are ours.

    Returns:
        All entries. What the caller did not say is added: versions, commit, `consent` ("unknown"), `ai_label`.
    """
    versions = {f"version.{name}": version(name) for name in ("torch", "diffusers", "peft")}
    versions |= {"version.idlora_pl": idlora_pl.__version__, "version.python": platform.python_version()}
    commit = {"git_commit": found} if (found := git_commit()) else {}
    added = versions | commit | {"consent": UNKNOWN_CONSENT, "ai_label": AI_LABEL}
    return added | dict(metadata) | {"base_model": base_model} | size_entries(lora)


def size_entries(lora: LoRA) -> dict[str, str]:
    """Rank, alpha and targets as header entries."""
    alpha = float(lora.rank if lora.alpha is None else lora.alpha)
    return {"rank": str(lora.rank), "alpha": str(alpha), "targets": ",".join(lora.targets)}


def peft_entry(lora: LoRA, style: AdapterStyle) -> dict[str, str]:
    """The entry from which diffusers takes alpha; ComfyUI's style has none, because ComfyUI reads no header.

    The fields are those that every peft since 0.9 knows, as `LoraConfig` refuses what it does not know.
    """
    if style == "comfyui":
        return {}
    config: dict[str, object] = {
        "r": lora.rank,
        "lora_alpha": lora.rank if lora.alpha is None else lora.alpha,
        "target_modules": sorted(lora.targets),
        "lora_dropout": 0.0,
        "bias": "none",
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_dora": False,
        "use_rslora": False,
    }
    packed = {f"transformer.{key}": value for key, value in config.items()}
    return {PEFT_ENTRY: json.dumps(packed, indent=2, sort_keys=True)}


def peft_config(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The peft configuration that comes with a file: in its header (diffusers) or beside it (peft); else {}.

    Raises:
        ValueError: when it is no JSON object, or asks for more than plain LoRA of one rank.
    """
    beside = path.with_name("adapter_config.json")
    if PEFT_ENTRY in metadata:
        source, config = f"{path}: {PEFT_ENTRY}", header_config(path, metadata)
    elif path.name == "adapter_model.safetensors" and beside.is_file():
        source, config = str(beside), _config_of(read_text(beside), str(beside))
    else:
        return {}
    for name in _UNSUPPORTED:
        if config.get(name):
            raise ValueError(
                f"{source} has {name} = {config[name]!r}; only plain LoRA of one rank and one alpha can be loaded"
            )
    return config


def header_config(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The peft configuration in the header of a file, as diffusers writes it, whatever it asks for; else {}.

    Raises:
        ValueError: when it is no JSON object.
    """
    return _config_of(metadata.get(PEFT_ENTRY, "{}"), f"{path}: {PEFT_ENTRY}")


def _config_of(text: str, source: str) -> dict[str, Any]:
    packed = parsed_json(text, source)
    if not isinstance(packed, dict):
        raise ValueError(f"{source} holds a {type(packed).__name__}, not an object; copy the file again")
    return {key.removeprefix("transformer."): value for key, value in packed.items()}


@cache
def git_commit() -> str | None:
    """The commit of the checkout that runs, read from `.git` once; None for an installed package."""
    place = _ROOT / ".git"
    if not (_ROOT / "pyproject.toml").is_file() or not place.exists():
        return None
    if place.is_file():  # a worktree: "gitdir: <folder>"
        place = (_ROOT / place.read_text().removeprefix("gitdir:").strip()).resolve()
    head = place / "HEAD"
    if not head.is_file():
        return None
    reference = head.read_text().strip()
    if not reference.startswith("ref: "):
        return reference
    name = reference.removeprefix("ref: ")
    shared = place / "commondir"
    common = (place / shared.read_text().strip()).resolve() if shared.is_file() else place
    for folder in (place, common):
        if (folder / name).is_file():
            return (folder / name).read_text().strip()
    packed = common / "packed-refs"
    lines = packed.read_text().splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {name}")), None)
