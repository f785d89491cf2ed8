"""Checks of weight files: weights, adapter_file, adapter_keymap."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from idlora_pl.ltx2.adapter_format import PREFIX, AdapterStyle
from idlora_pl.ltx2.lora import attach_lora, load_adapter, lora_state_dict, save_adapter
from idlora_pl.ltx2.presets import PRESETS
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.parity.cases import LAYOUTS, Case, read_tensors
from idlora_pl.parity.findings import Findings, distance
from idlora_pl.parity.models import configuration, empty_model, load_weights

_KEY = re.compile(r"(.*transformer_blocks\.)(\d+)\.(.+)")
Shapes = Mapping[str, Sequence[int]]


def check_weights(findings: Findings) -> None:
    """Load the weights into the class, every one of them, and compare the number of parameters."""
    case = findings.case
    model = empty_model(case, configuration(case))
    load_weights(model, case.path.with_suffix(".safetensors"), case.tensors)
    for name, weight in model.transformer.state_dict().items():
        findings.tensor(name, weight, bound=0.0)
    params = sum(weight.numel() for weight in model.transformer.parameters())
    findings.number("params", params, case.whole("params"))


def check_adapter_file(findings: Findings) -> None:
    """Load an adapter into a base of its sizes, and write it again in every style, bit for bit."""
    case = findings.case
    keys: Shapes = {key: case.items(f"keys.{key}", int) for key in case.mapping("keys")} if case.field("keys") else {}
    for key in sorted(keys.keys() | set(case.names(""))):
        if key not in keys:
            raise case.wrong_tensor(key, f"is not in the keys of {case.path.name}")
        case.tensor(key, *keys[key])
    blocks = [found for key in keys if (found := _KEY.fullmatch(key))]
    if len(blocks) != len(keys) or not keys:
        raise case.wrong("keys", "must all be named <prefix>transformer_blocks.<i>.<linear>.lora_A or B.weight")
    layers = 1 + max(int(found[2]) for found in blocks)
    model = empty_model(case, _config(case, {found[3]: keys[found[0]] for found in blocks}, layers))
    try:
        load_adapter(model, case.path.with_suffix(".safetensors"))
    except ValueError as error:
        raise case.wrong_tensor("file", f"is refused: {error}") from error
    state = lora_state_dict(model)
    prefix = blocks[0][1].removesuffix("transformer_blocks.")
    for key in keys:
        findings.tensor(key, state[PREFIX + key.removeprefix(prefix)], bound=0.0)
    for style in get_args(AdapterStyle):
        _check_written(findings, model, style, {key.removeprefix(prefix): case.tensors[key] for key in keys})


def _check_written(findings: Findings, model: LTX2, style: AdapterStyle, stored: Mapping[str, Tensor]) -> None:
    prefix = {"comfyui": PREFIX, "diffusers": "transformer."}[style]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.safetensors"
        save_adapter(model, path, {}, style=style)
        written = read_tensors(path)
    findings.equal(f"names written as {style}", set(written), {prefix + name for name in stored})
    errors = [distance(written[prefix + name], tensor) for name, tensor in stored.items() if prefix + name in written]
    findings.number(f"values written as {style}", max(errors, default=float("inf")), 0.0)


def check_adapter_keymap(findings: Findings) -> None:
    """Compare names, shapes and counts of the full-size adapter with ours, on the device "meta"."""
    case = findings.case
    shapes: Shapes = {name: case.items(f"suffix_shapes.{name}", int) for name in case.mapping("suffix_shapes")}
    layers, rank = case.whole("layers", least=1), case.whole("rank", least=1)
    model = empty_model(case, _config(case, shapes, layers), device="meta")
    targets = sorted({re.sub(r"\.lora_[AB]\.weight$", "", name) for name in shapes})
    try:
        params = attach_lora(model, rank, case.number("alpha"), tuple(targets))
    except ValueError as error:
        raise case.wrong("suffix_shapes", f"is refused: {error}") from error
    state = {name.removeprefix(PREFIX): tuple(weight.shape) for name, weight in lora_state_dict(model).items()}
    for name, shape in shapes.items():
        ours = {state.get(f"transformer_blocks.{block}.{name}") for block in range(layers)}
        findings.equal(f"suffix_shapes.{name}", ours, {tuple(shape)})
    findings.equal("pattern", f"transformer_blocks.{{0..{layers - 1}}}.<suffix>", case.text("pattern"))
    findings.number("tensors", len(state), case.whole("tensors"))
    findings.number("params", params, case.whole("params"))
    findings.number("bytes_bf16_payload", 2 * params, case.whole("bytes_bf16_payload"))
    for title, prefix in (("reference/ComfyUI file", PREFIX), ("diffusers pipeline LoRA file", "transformer.")):
        if case.has_field(f"prefixes.{title}"):
            findings.equal(f"prefixes.{title}", prefix, case.text(f"prefixes.{title}"))


def _config(case: Case, shapes: Shapes, layers: int) -> Mapping[str, Any]:
    """Return the configuration of a base whose linears have the shapes that an adapter needs.

    Args:
        case: names the layout; a key map without one is that of both.
        shapes: of the low-rank matrices, by their names inside a block.
        layers: number of blocks.
    """
    base = dict(PRESETS[case.layout if case.has_field("layout") else LAYOUTS[0]].config)

    def width(default: str, *names: str) -> int:
        """Return the inputs of the first of some linears that the adapter has."""
        found = next((shapes[f"{name}.lora_A.weight"] for name in names if f"{name}.lora_A.weight" in shapes), None)
        return base[default] if found is None else found[-1]  # type: ignore[return-value]

    audio = width("audio_cross_attention_dim", "audio_attn1.to_q", "audio_to_video_attn.to_k", "audio_ff.net.0.proj")
    video = width("cross_attention_dim", "audio_to_video_attn.to_q", "video_to_audio_attn.to_k", "attn1.to_q")
    for prefix, size in (("", video), ("audio_", audio)):
        heads = base[f"{prefix}num_attention_heads"]
        assert isinstance(heads, int)
        base[f"{prefix}num_attention_heads"] = heads if size % (2 * heads) == 0 else 1
        base[f"{prefix}attention_head_dim"] = size // base[f"{prefix}num_attention_heads"]  # type: ignore[operator]
        base[f"{prefix}cross_attention_dim"] = size
    text = width("audio_cross_attention_dim", "audio_attn2.to_k")
    return base | {
        "num_layers": layers,
        "audio_cross_attention_dim": text,
    }
