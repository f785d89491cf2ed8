"""`idlora adapter`: what an adapter file holds, and the same adapter in another program's style."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from idlora_pl.ltx2.adapter_file import read_adapter, write_adapter
from idlora_pl.ltx2.adapter_format import PAPER_TARGETS, Adapter, AdapterStyle, misfit
from idlora_pl.ltx2.checkpoint import listed
from idlora_pl.ltx2.presets import PRESETS
from idlora_pl.ltx2.transformer import LTX2

_SHOWN_APART = (
    "base_model",
    "rank",
    "alpha",
    "targets",
    "consent",
    "ai_label",
    "ai_generated_output",
    "lora_adapter_metadata",
    "format",
)
_RECIPE = "in_context."
_PROGRAMS = {
    "diffusion_model.": "ComfyUI and the authors",
    "transformer.": "diffusers",
    "base_model.model.": "peft",
    "": "no prefix",
}


def adapter(file: Path, *, output: Path | None = None, style: AdapterStyle = "comfyui") -> None:
    """Print what an adapter file holds; with --output also write it in the style of ComfyUI or diffusers.

    Args:
        file: safetensors of ours, the authors, ComfyUI, diffusers or peft.
        output: Where to write it again; for diffusers a folder or a file.
        style: Style of --output.
    """
    found = read_adapter(file)
    console = Console()
    table = Table(show_header=False, title=str(file), title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in describe(found).items():
        table.add_row(name, value)
    console.print(table)
    if output is not None:
        if len(found.idle) == len(found.linears):
            raise ValueError(f"{file} changes nothing, so it is not written again; pass a trained adapter")
        console.print(f"wrote {write_adapter(output, found, style=style)}", soft_wrap=True)


def describe(found: Adapter) -> dict[str, str]:
    """Say what an adapter holds, in words, by subject."""
    about = found.metadata
    n_parameters = sum(weight.numel() for weight in found.state.values())
    recipe = {key.removeprefix(_RECIPE): about[key] for key in sorted(about) if key.startswith(_RECIPE)}
    idle, n_linears = found.idle, len(found.linears)
    apart = {key for key in about if key in _SHOWN_APART or key.startswith(_RECIPE)}
    rest = {key: about[key] for key in sorted(about.keys() - apart)}
    return {
        "style": ", ".join(_PROGRAMS.get(prefix, prefix) for prefix in found.prefixes),
        "base model": _base_model(found),
        "rank, alpha": f"{found.lora.rank}, {found.lora.alpha:g}",
        "targets": _targets(found),
        "size": f"{len(found.state)} tensors, {n_parameters} parameters, {' and '.join(found.dtypes)}",
        "changes": "nothing: every update is zero"
        if len(idle) == n_linears
        else f"{n_linears - len(idle)} of {n_linears} linears" + (f"; not {listed(idle)}" if idle else ""),
        "recipe": _joined(recipe) or "not told; pass in_context when it is loaded",
        "consent": about.get("consent", "not told"),
        "AI label": about.get("ai_label") or about.get("ai_generated_output", "not told"),
        "header": _joined(rest) or "nothing else",
    }


def _joined(entries: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in entries.items())


def _base_model(found: Adapter) -> str:
    """What the header says, and what fits by names and shapes."""
    told = found.metadata.get("base_model")
    candidates = {
        name: each for name, each in PRESETS.items() if name == told or each.config["num_layers"] == found.n_blocks
    }
    wrong = {name: misfit(found, LTX2(preset, device="meta")) for name, preset in candidates.items()}
    fitting = [name for name, text in wrong.items() if not text]
    if told is None:
        return f"not told; fits {' and '.join(fitting)}" if fitting else "not told; fits none of the presets"
    if told in fitting:
        return told
    return f"{told}, but does not fit it: {wrong[told]}" if told in wrong else f"{told}, which is no preset here"


def _targets(found: Adapter) -> str:
    targets = found.lora.targets
    which = "those of the paper" if set(targets) == set(PAPER_TARGETS) else ", ".join(targets)
    return f"{len(targets)} linears in each of {found.n_blocks} blocks: {which}"
