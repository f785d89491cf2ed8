"""LoRAs on LTX-2, each with a strength: attached, detached, read and written; the ID-LoRA, and the distilled LoRA."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers.loaders.lora_pipeline import LTX2LoraLoaderMixin
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from idlora_pl.ltx2.adapter_file import header_config, own_entries, read_adapter, write_adapter
from idlora_pl.ltx2.adapter_format import PAPER_TARGETS, PREFIX, Adapter, AdapterStyle, LoRA, check_adapter
from idlora_pl.ltx2.checkpoint import as_floats, differences, listed
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


ADAPTER, DISTILLED = "default", "distilled"
"""peft's names of the ID-LoRA and of the distilled LoRA."""

_CONNECTORS = ("text_embedding_projection.", "connectors.", "video_embeddings_connector", "audio_embeddings_connector")
_SIDES = (".lora_A.weight", ".lora_B.weight")
_SIZES = (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern"))


def has_distilled(model: LTX2) -> bool:
    """Whether the model carries a distilled LoRA."""
    return DISTILLED in getattr(model.transformer, "peft_config", {})


def load_distilled(model: LTX2, path: str | Path) -> None:
    """Load a distilled LoRA beside the ID-LoRA: frozen, in the base's dtype, and at strength 0 until `strengths`.

    It may change any linear of the transformer, with any rank for each. The reference fuses it into the bfloat16
    weights instead (spec section 3.7), which differs by bfloat16 rounding.

    Args:
        model: The base model, with or without an ID-LoRA.
        path: Safetensors with names of the authors (ComfyUI) or of diffusers. Tensors for the text connectors are
            left out with a warning, because the released scripts do not apply them either. Alpha is the rank of
            each, as in the released scripts; a file whose header says otherwise is refused. fp8 is read exactly.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not fit the model, holds nan or infinity or another alpha than the rank, changes
            nothing, or the model has a distilled LoRA.
    """
    path = Path(path)
    if has_distilled(model):
        raise ValueError(f"{path}: the model carries a distilled LoRA already; build it anew for another one")
    state = _read(path)
    _check(path, model, state)
    _check_values(path, state)
    state = {name: weight.to(model.transformer.dtype) for name, weight in state.items()}
    with _kept_trainable(model), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
        # the tensors are taken as they are: no second copy in float32
        model.transformer.load_lora_adapter(state, prefix=None, adapter_name=DISTILLED, low_cpu_mem_usage=True)
        _rest(model)
    for name, weight in model.transformer.named_parameters():
        if f".{DISTILLED}." in name:
            weight.requires_grad_(False)


@contextmanager
def strengths(model: LTX2, *, adapter: float = 1.0, distilled: float = 0.0) -> Iterator[None]:
    """Set the strength of each LoRA inside a `with` block; afterwards the ID-LoRA is whole and alone again.

    Args:
        model: The base model; a LoRA that it does not carry has no strength.
        adapter: Of the ID-LoRA.
        distilled: Of the distilled LoRA.
    """
    loaded = getattr(model.transformer, "peft_config", {})
    wanted = {name: scale for name, scale in ((ADAPTER, adapter), (DISTILLED, distilled)) if name in loaded}
    if wanted.get(ADAPTER, 1.0) == 1.0 and not wanted.get(DISTILLED, 0.0):
        yield
        return
    with _kept_trainable(model):
        _activate(model, {name: scale for name, scale in wanted.items() if scale})
    try:
        yield
    finally:
        with _kept_trainable(model):
            _rest(model)


def _rest(model: LTX2) -> None:
    _activate(model, {ADAPTER: 1.0} if ADAPTER in model.transformer.peft_config else {})


def _activate(model: LTX2, scales: Mapping[str, float]) -> None:
    """Let the named LoRAs take part, with these strengths, and no other."""
    if not scales:
        model.transformer.disable_adapters()
        return
    model.transformer.enable_adapters()
    model.transformer.set_adapters(list(scales), list(scales.values()))


@contextmanager
def _kept_trainable(model: LTX2) -> Iterator[None]:
    """Undo what peft does to `requires_grad` when it switches adapters."""
    before = [(weight, weight.requires_grad) for weight in model.transformer.parameters()]
    yield
    for weight, trainable in before:
        weight.requires_grad_(trainable)


def _read(path: Path) -> dict[str, Tensor]:
    """Read the tensors under diffusers' names, without a prefix."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give the safetensors file of the distilled LoRA")
    try:
        with safe_open(path, framework="pt") as file:
            names, about = list(file.keys()), file.metadata() or {}
            left_out = [name for name in names if name.removeprefix("diffusion_model.").startswith(_CONNECTORS)]
            tensors = {name: as_floats(path, name, file.get_tensor(name)) for name in names if name not in left_out}
    except SafetensorError as error:
        raise ValueError(f"{path}: no safetensors file ({error}); pass the distilled LoRA") from error
    _check_alpha(path, about)
    if left_out:
        warnings.warn(
            f"{path}: {len(left_out)} tensors for the text connectors are left out, as in the released scripts: "
            f"{left_out[0]} and so on",
            stacklevel=3,
        )
    # diffusers renames what carries the authors' prefix, and leaves its own names as they are
    plain = {name.removeprefix("transformer.").removeprefix("diffusion_model."): t for name, t in tensors.items()}
    renamed = LTX2LoraLoaderMixin.lora_state_dict({f"diffusion_model.{name}": t for name, t in plain.items()})
    return {name.removeprefix("transformer."): weight for name, weight in renamed.items()}


def _check_alpha(path: Path, about: Mapping[str, str]) -> None:
    """Refuse a peft configuration, as diffusers keeps it in the header, in which alpha is not the rank."""
    config = header_config(path, about)
    ranks, alphas = ((config.get(one), config.get(each) or {}) for one, each in _SIZES)
    if ranks != alphas:
        raise ValueError(
            f"{path}: the header has alpha {alphas[0]} for rank {ranks[0]}, by name {alphas[1]} for {ranks[1]}; alpha "
            "must be the rank: multiply alpha / rank into lora_B"
        )


def _check_values(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse numbers that are none, and a LoRA whose every update is zero."""
    broken = [name for name, weight in state.items() if not weight.isfinite().all()]
    if broken:
        raise ValueError(f"{path}: {len(broken)} tensors hold nan or infinity: {listed(broken)}; copy the file again")
    alive = [
        {name.removesuffix(side) for name in state if name.endswith(side) and state[name].any()} for side in _SIDES
    ]
    if not set.intersection(*alive):
        raise ValueError(f"{path}: changes nothing: every update is zero; pass the distilled LoRA of this base model")


def _check(path: Path, model: LTX2, state: Mapping[str, Tensor]) -> None:
    """Refuse tensors that belong to no linear of the model, come alone, or have another shape."""
    modules = model.transformer.named_modules()
    linears = {name: module for name, module in modules if isinstance(module, nn.Linear | LoraLayer)}
    pairs = {linear: [linear + side for side in _SIDES] for linear in linears}
    known = {name for pair in pairs.values() for name in pair}
    unknown = sorted(state.keys() - known)
    missing = sorted(name for pair in pairs.values() for name in pair if name not in state and set(pair) & state.keys())
    if unknown or missing or not state:
        raise ValueError(
            f"{path}: no LoRA of {model.preset.name}: {len(unknown)} of {len(state)} names are of no linear of it "
            f"{unknown[:2]}, {len(missing)} are missing {missing[:2]}; pass the distilled LoRA of this base model"
        )
    for linear, (down, up) in pairs.items():
        if down not in state:
            continue
        rank, module = state[down].shape[0], linears[linear]
        needed = {down: (rank, module.in_features), up: (module.out_features, rank)}
        for name, shape in needed.items():
            if tuple(state[name].shape) != shape:
                raise ValueError(
                    f"{path}: {name} is {tuple(state[name].shape)}, {model.preset.name} needs {shape}; pass the "
                    "distilled LoRA of this base model"
                )
