"""LoRA on LTX-2: attach and detach, and adapters as files."""

from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from torch import Tensor

from idlora_pl.ltx2.adapter_check import check_adapter
from idlora_pl.ltx2.adapter_file import read_adapter, write_adapter
from idlora_pl.ltx2.adapter_format import PAPER_TARGETS, PREFIX, Adapter, AdapterStyle, LoRA
from idlora_pl.ltx2.adapter_metadata import own_entries
from idlora_pl.ltx2.differences import differences
from idlora_pl.ltx2.transformer import LTX2

_ADAPTER = "default"


def attach_lora(
    model: LTX2, rank: int = 128, alpha: float | None = None, targets: tuple[str, ...] = PAPER_TARGETS
) -> int:
    """Freeze the base and add trainable float32 low-rank updates, which start as the identity.

    Args:
        model: the base model, without an adapter.
        rank: inner width of the updates.
        alpha: the update is scaled by alpha / rank; None means alpha = rank.
        targets: name endings of the linears inside each block.

    Returns:
        How many parameters were added.

    Raises:
        ValueError: when the model has an adapter, the rank is not positive, or a target names nothing.

    Example:
        >>> attach_lora(LTX2.from_preset("smoke"), rank=4)
        5888
    """
    if attached_lora(model) is not None:
        raise ValueError("the model already carries an adapter; call detach_lora(model) first")
    if rank < 1:
        raise ValueError(f"rank must be at least 1; got {rank}")
    modules = model.transformer.named_modules()
    # a linear that carries a distilled LoRA is a LoraLayer around it
    names = [name for name, module in modules if isinstance(module, torch.nn.Linear | LoraLayer)]
    for target in targets:
        if not any(name.endswith("." + target) for name in names):
            raise ValueError(f"target {target!r} names no linear of {model.preset.name}; use names as in PAPER_TARGETS")
    model.requires_grad_(False)
    scale = float(rank if alpha is None else alpha)
    config = LoraConfig(r=rank, lora_alpha=scale, target_modules=list(targets))  # type: ignore[arg-type]
    on_meta = model.transformer.device.type == "meta"
    with torch.device("meta" if on_meta else "cpu"):  # on the CPU, one seed gives one start on every machine
        model.transformer.add_adapter(config, adapter_name=_ADAPTER)
    added = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in added:
        weight.data = weight.data.float()
    return sum(weight.numel() for weight in added)


def detach_lora(model: LTX2) -> None:
    """Remove the adapter; the base stays frozen."""
    if attached_lora(model) is not None:
        model.transformer.unload_lora()


def attached_lora(model: LTX2) -> LoRA | None:
    """The size and place of the model's adapter, or None when it has none."""
    configs = getattr(model.transformer, "peft_config", None)
    if not configs or _ADAPTER not in configs:
        return None
    config = configs[_ADAPTER]
    return LoRA(config.r, float(config.lora_alpha), tuple(sorted(config.target_modules)))


def lora_state_dict(model: LTX2) -> dict[str, Tensor]:
    """The adapter's tensors under the authors' (ComfyUI's) names.

    Returns:
        `diffusion_model.transformer_blocks.0.audio_attn1.to_q.lora_A.weight` (rank, in), `...lora_B.weight`
        (out, rank), and so on.
    """
    if attached_lora(model) is None:
        raise ValueError("the model carries no adapter; call attach_lora(model) first")
    state = get_peft_model_state_dict(model.transformer, adapter_name=_ADAPTER, save_embedding_layers=False)
    return {PREFIX + name: weight for name, weight in state.items()}


def load_lora_state_dict(model: LTX2, state: Mapping[str, Tensor]) -> None:
    """Copy tensors named as by `lora_state_dict` into the attached adapter.

    Raises:
        ValueError: when a name is missing or unknown, or a shape differs.
    """
    expected = lora_state_dict(model)
    if wrong := differences(state, expected):
        raise ValueError(
            f"not a state of the attached adapter ({wrong}); attach one with the rank and targets, and on the base "
            "model, of the state"
        )
    plain = {name.removeprefix(PREFIX): weight for name, weight in state.items()}
    set_peft_model_state_dict(model.transformer, plain, adapter_name=_ADAPTER)


def adapter_of(model: LTX2, metadata: Mapping[str, str]) -> Adapter:
    """The attached adapter as it goes into a file.

    Args:
        model: carries the adapter.
        metadata: header entries, such as those of `InContext`; `own_entries` completes them.
    """
    state = {name.removeprefix(PREFIX): weight for name, weight in lora_state_dict(model).items()}
    lora = attached_lora(model)
    assert lora is not None  # lora_state_dict has refused a model without an adapter
    return Adapter(state, lora, own_entries(model.preset.name, lora, metadata))


def save_adapter(
    model: LTX2, path: str | Path, metadata: Mapping[str, str], *, style: AdapterStyle = "comfyui"
) -> Path:
    """Write the adapter to one file; a file of that name is replaced only when the new one is complete.

    Args:
        model: carries the adapter.
        path: where to; missing folders are made. A folder for diffusers' `pytorch_lora_weights.safetensors`.
        metadata: more header entries, such as those of `InContext`; base model, rank, alpha, versions and the
            AI label are added, `consent` is "unknown" unless it is given.
        style: "comfyui", which the authors' code loads, too, or "diffusers" for `LTX2Pipeline.load_lora_weights`.

    Returns:
        The file.

    Raises:
        ValueError: when the model has no adapter, or the style cannot hold its alpha exactly.
    """
    return write_adapter(path, adapter_of(model, metadata), style=style)


def load_adapter(model: LTX2, path: str | Path) -> dict[str, str]:
    """Load an adapter, ours, the authors', ComfyUI's, diffusers' or peft's, and attach it with the file's own rank.

    Args:
        model: the base model, without an adapter or with one of the same rank, alpha and targets.
        path: the file, or a folder with one.

    Returns:
        The file's header entries; pass them to `InContext.from_metadata`.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no adapter, not one of this base model, incomplete, or changes nothing.
    """
    adapter = read_adapter(path)
    check_adapter(Path(path), adapter, model)
    lora, attached = adapter.lora, attached_lora(model)
    if attached is None:
        attach_lora(model, lora.rank, lora.alpha, lora.targets)
    elif attached != lora:
        raise ValueError(
            f"{path}: the model carries an adapter of rank {attached.rank}, alpha {attached.alpha}, "
            f"{len(attached.targets)} targets, the file has {lora.rank}, {lora.alpha}, {len(lora.targets)}; "
            "call detach_lora(model) first"
        )
    load_lora_state_dict(model, {PREFIX + name: weight for name, weight in adapter.state.items()})
    return dict(adapter.metadata)
