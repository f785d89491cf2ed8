"""Cases made wrong: numbers that were changed, and files that cannot be understood."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Change = Callable[[dict, dict], object]


@dataclass(frozen=True)
class Changed:
    """A copy of a case in which numbers were changed by ten times their bound, or more.

    Attributes:
        source: the case.
        tensors: names of the tensors that get the amount added to their last number.
        amount: that amount.
        fields: dotted names of fields, and what they become.
    """

    source: str
    tensors: tuple[str, ...] = ()
    amount: float = 0.0
    fields: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the copy."""
        return f"{self.source}_changed"


CHANGED = (
    Changed("a_weights", fields={"params": 3}),
    Changed("a_forward_reference", ("out.audio",), 1e-4),
    Changed("b_forward_masks", ("out.video",), 1e-4),
    Changed("b_perturbed", ("out.stg_v.video", "out.mixed_isolated.audio"), 1e-4),
    Changed("n_connectors_a", ("feat.normed", "out.video_context", "out.mask"), 1.0),
    Changed("n_connectors_b", ("feat.audio", "out.audio_context"), 5e-5),
    Changed("n_keymap", fields={"params": 12, "prefixes.reference/ComfyUI file": "model."}),
    Changed(
        "a_train",
        (
            "prep.audio_coords",
            "prep.video_targets",
            "pred.audio",
            "loss.video",
            "loss_variant.text_only",
            "grad.transformer_blocks.1.audio_ff.net.2.lora_B.weight",
            "grad_norm",
            "train2.losses",
            "train2.lrs",
            "train2.final.diffusion_model.transformer_blocks.0.audio_attn2.to_q.lora_A.weight",
        ),
        1e-2,
        {"loss_variants.no_masks": [1.0, 2.0, 3.0]},
    ),
    Changed("train_prep_stored_dtypes", ("prep.audio_combined", "prep.video_timesteps"), 1e-3),
    Changed("b_sampler", ("in.initial_audio", "step1.video_x0", "step2.audio_next", "variant.bare.audio_latent"), 1e-3),
    Changed("b_high_quality", ("hq.final_audio", "s2.initial_video", "s2.final_audio"), 1e-3),
    Changed("n_positions", ("ref.3.fp32", "video.2x3x1@30.0.bf16"), 1.0, {"info.3.fp32.distinct_ref_phases": 2}),
    Changed("n_sigmas", ("sigmas.5.tokens96", "sigmas.6.nostretch.tokens500"), 1e-5),
    Changed("n_levels_1", ("v1.sigma.12",), 2e-5, {"shift.1536": 1.0}),
    Changed("n_levels_2", ("v2.sigma.5000",), 2e-5, {"p999": 3.2}),
    Changed("n_mel", ("out.mel16k",), 1e-4),
)


@dataclass(frozen=True)
class Wrong:
    """A copy of a case that cannot be understood.

    Attributes:
        source: the case.
        place: the field or the tensor that the message must name.
        change: changes (fields, tensors) of the copy.
        file: file that the message must name, if it is not the copy's own JSON or tensors.
    """

    source: str
    place: str
    change: Change
    file: str = ""


def drop(name: str) -> Change:
    """Leave out a field, by its dotted name."""
    *path, last = name.split(".")

    def change(fields: dict, _tensors: dict) -> None:
        for key in path:
            fields = fields[key]
        del fields[last]

    return change


def put(name: str, value: object) -> Change:
    """Give a field another value, by its dotted name; keys may hold dots."""

    def change(fields: dict, _tensors: dict) -> None:
        set_field(fields, name, value)

    return change


def set_field(fields: dict, name: str, value: object) -> None:
    """Set a field by its dotted name; keys may hold dots."""
    while name not in fields and "." in name:
        ends = [index for index, letter in enumerate(name) if letter == "." and name[:index] in fields]
        if not ends:
            break
        fields, name = fields[name[: ends[0]]], name[ends[0] + 1 :]
    fields[name] = value


def without(name: str) -> Change:
    """Leave out a tensor, in the list of the JSON, too."""

    def change(fields: dict, tensors: dict) -> None:
        del tensors[name]
        fields.get("tensors", {}).pop(name, None)

    return change


def copied(name: str, source: str) -> Change:
    """Add a copy of a tensor under another name, and list it."""
    return tensor(name, torch.clone, source)


def tensor(name: str, make: Callable[[torch.Tensor], torch.Tensor], source: str = "") -> Change:
    """Make another tensor of a tensor, and list it."""

    def change(fields: dict, tensors: dict) -> None:
        made = make(tensors[source or name]).contiguous()
        tensors[name] = made
        if "tensors" in fields:
            fields["tensors"][name] = {"shape": list(made.shape), "dtype": str(made.dtype)}

    return change


FIRST = "diffusion_model.transformer_blocks.0.audio_attn1.to_q.lora_A.weight"


def shorten(fields: dict, tensors: dict) -> None:
    """Give one low-rank matrix another rank than the others."""
    tensors[FIRST] = tensors[FIRST][:2].contiguous()
    fields["keys"][FIRST] = list(tensors[FIRST].shape)


WRONG: dict[str, Wrong] = {
    "unknown_kind": Wrong("a_forward_plain", "kind", put("kind", "forwards")),
    "no_kind": Wrong("a_forward_plain", "kind", drop("kind")),
    "unknown_layout": Wrong("a_forward_plain", "layout", put("layout", "ltx3")),
    "nano_layout": Wrong("a_forward_plain", "layout", put("layout", "nano")),
    "no_tolerance": Wrong("a_forward_plain", "tolerance", drop("tolerance")),
    "text_tolerance": Wrong("a_forward_plain", "tolerance", put("tolerance", "small")),
    "no_fps": Wrong("a_forward_plain", "dims.fps", drop("dims.fps")),
    "other_dims": Wrong("a_forward_plain", "dims", put("dims.latent_w", 4)),
    "no_config": Wrong("a_forward_plain", "diffusers_config", drop("diffusers_config")),
    "bad_config": Wrong("a_forward_plain", "diffusers_config", put("diffusers_config.n_layers", 3)),
    "other_config": Wrong(
        "a_forward_plain",
        "transformer_blocks.2.",
        put("diffusers_config.num_layers", 2),
        file="a_weights.safetensors",
    ),
    "no_weights_field": Wrong("a_forward_plain", "weights", drop("model_weights")),
    "no_weights_file": Wrong("a_forward_plain", "model_weights", put("model_weights", "c_weights.safetensors")),
    "no_tensor": Wrong("a_forward_plain", "in.sigma", without("in.sigma")),
    "unlisted_tensors": Wrong("a_forward_plain", "tensors", drop("tensors")),
    "listed_tensor": Wrong(
        "a_forward_plain", "in.more", put("tensors.in.more", {"shape": [1], "dtype": "torch.float32"})
    ),
    "listed_shape": Wrong(
        "a_forward_plain", "in.sigma", put("tensors.in.sigma", {"shape": [4], "dtype": "torch.float32"})
    ),
    "wrong_shape": Wrong("b_forward_reference", "in.audio_coords", tensor("in.audio_coords", lambda x: x[:, :, 1:])),
    "wrong_output_shape": Wrong("b_forward_reference", "out.audio", tensor("out.audio", lambda x: x[:, 1:])),
    "other_timesteps": Wrong(
        "b_forward_reference", "in.audio_timesteps", tensor("in.audio_timesteps", lambda x: x * 0.9)
    ),
    "weak_mask": Wrong(
        "b_forward_masks", "in.audio_text_mask", tensor("in.audio_text_mask", lambda x: x.clamp(min=-1e4))
    ),
    "other_mask": Wrong("b_forward_masks", "in.a2v_mask", tensor("in.a2v_mask", lambda x: x.flip(2))),
    "unknown_input": Wrong("b_forward_masks", "in.v2a_mask", copied("in.v2a_mask", "in.a2v_mask")),
    "no_blocks": Wrong("b_perturbed", "stg_blocks", drop("stg_blocks")),
    "block_outside": Wrong("b_perturbed", "stg_blocks", put("stg_blocks", [9])),
    "unknown_twin": Wrong("b_perturbed", "out.stg_x", copied("out.stg_x.video", "out.stg_v.video")),
    "weights_without": Wrong("a_weights", "proj_in.bias", without("proj_in.bias")),
    "weights_with_more": Wrong("a_weights", "more", copied("more", "proj_in.bias")),
    "adapter_without": Wrong("a_lora", FIRST, without(FIRST)),
    "adapter_of_two_ranks": Wrong("a_lora", "file", shorten),
    "keymap_without_rank": Wrong("n_keymap", "rank", drop("rank")),
    "keymap_of_another_model": Wrong(
        "n_keymap", "suffix_shapes", put("suffix_shapes.audio_attn9.to_q.lora_A.weight", [6, 4])
    ),
    "no_adapter_file": Wrong("a_train", "lora", put("lora", "c_lora.safetensors")),
    "other_rank": Wrong("a_train", "lora", put("lora_rank", 5)),
    "unknown_variant": Wrong("a_train", "loss_variant.new", copied("loss_variant.new", "grad_norm")),
    "no_noise": Wrong("a_train", "noise.1.video", without("noise.1.video")),
    "no_steps": Wrong("b_sampler", "steps", drop("steps")),
    "other_steps": Wrong("b_sampler", "in.sigmas", put("steps", 5)),
    "no_scale": Wrong("b_sampler", "scales.identity", drop("scales.identity")),
    "unknown_mode": Wrong("b_sampler", "stg_mode", put("stg_mode", "stg_x")),
    "unknown_setting": Wrong("b_sampler", "variants.bare.colour", put("variants.bare.colour", 1)),
    "undescribed_variant": Wrong("b_sampler", "variants.bare", drop("variants.bare")),
    "rising_levels": Wrong("b_sampler", "in.sigmas", tensor("in.sigmas", lambda x: x.flip(0))),
    "no_negative": Wrong("b_sampler", "in.video_context_neg", without("in.video_context_neg")),
    "no_voice": Wrong("b_sampler", "in.reference_audio_latent", without("in.reference_audio_latent")),
    "odd_height": Wrong("b_sampler", "height", put("height", 100)),
    "less_noise": Wrong("b_high_quality", "hq.sde_noise", without("hq.sde_noise.05")),
    "other_count": Wrong("b_high_quality", "n_sde", put("n_sde", 8)),
    "no_upscaled": Wrong("b_high_quality", "s2.upscaled_video", without("s2.upscaled_video")),
    "no_heads": Wrong("n_connectors_a", "connector.heads", drop("connector.heads")),
    "right_padding": Wrong("n_connectors_a", "in.mask", tensor("in.mask", lambda x: x.flip(1))),
    "no_register": Wrong(
        "n_connectors_a",
        "w.audio_connector.learnable_registers",
        without("w.audio_connector.learnable_registers"),
    ),
    "unknown_position": Wrong("n_positions", "place.3", copied("place.3", "ref.3.fp32")),
    "unknown_schedule": Wrong("n_sigmas", "sigmas.x", copied("sigmas.x", "sigmas.2.tokens96")),
    "no_normals": Wrong("n_levels_2", "normals", without("normals")),
    "no_shift": Wrong("n_levels_2", "shift", drop("shift")),
    "no_wave": Wrong("n_mel", "in.wave16k", without("in.wave16k")),
    "no_batch": Wrong("train_prep_stored_dtypes", "batch.video_latents", without("batch.video_latents")),
}


def write_changed(folder: Path) -> None:
    """Write all copies with changed numbers beside the cases."""
    for one in CHANGED:
        fields, tensors = read(folder, one.source)
        for name in one.tensors:
            flat = tensors[name].flatten()
            flat[-1] = flat[-1] + (1 if flat.dtype == torch.int64 else one.amount)
            tensors[name] = flat.reshape(tensors[name].shape)
        for name, value in one.fields.items():
            set_field(fields, name, value)
        write(folder, one.name, fields, tensors)


def write_wrong(folder: Path) -> None:
    """Write all copies that cannot be understood beside the cases, and three files that are none."""
    for name, one in WRONG.items():
        fields, tensors = read(folder, one.source)
        one.change(fields, tensors)
        write(folder, f"wrong_{name}", fields, tensors)
    (folder / "wrong_json.json").write_text("{")
    fields, tensors = read(folder, "a_forward_plain")
    (folder / "wrong_alone.json").write_text(json.dumps(fields))
    save_file(tensors, folder / "wrong_orphan.safetensors")
    (folder / "wrong_damaged.json").write_text(json.dumps(fields))
    (folder / "wrong_damaged.safetensors").write_bytes(b"no tensors")


def read(folder: Path, name: str) -> tuple[dict, dict]:
    """Return fields and tensors of a case."""
    path = folder / f"{name}.safetensors"
    return json.loads((folder / f"{name}.json").read_text()), load_file(path) if path.exists() else {}


def write(folder: Path, name: str, fields: dict, tensors: dict) -> None:
    """Write a case."""
    (folder / f"{name}.json").write_text(json.dumps(fields))
    if tensors:
        save_file(tensors, folder / f"{name}.safetensors")
