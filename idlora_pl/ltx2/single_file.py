"""One safetensors file of the authors, with every network of a release but the language model.

Only the header is read until a network is asked for; its tensors are then mapped from the file, one by one, and kept
as they are when the dtype is the stored one, so that 38 GB never lie in memory twice. The configuration in the header
is compared with that of a diffusers network, as shapes do not tell everything: rotary positions, timestep factors,
strides and sampling rates are only there.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from idlora_pl.ltx2.checkpoint import Stored, differences, listed, read_header, read_tensors
from idlora_pl.ltx2.key_map import PARTS, Part, diffusers_names, part_of


@dataclass(frozen=True)
class SingleFile:
    """What the header of a file of the authors says.

    Attributes:
        path: the file.
        tensors: what it holds, by the authors' names.
        config: the configuration of the release by network; {} when the header has none.
    """

    path: Path
    tensors: Mapping[str, Stored]
    config: Mapping[str, Any]

    @classmethod
    def opened(cls, path: Path) -> SingleFile:
        """Read the header of a file.

        Raises:
            ValueError: when it is no safetensors file, or its `config` is no JSON object.
        """
        tensors, metadata = read_header(path)
        try:
            config = json.loads(metadata.get("config", "{}"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: config in its header is not valid JSON ({error}); copy it again") from error
        if not isinstance(config, dict):
            raise ValueError(f"{path}: config in its header holds a {type(config).__name__}, not an object")
        strange = [name for name in tensors if part_of(name) is None]
        if 0 < len(strange) < len(tensors):
            warnings.warn(f"{path}: {len(strange)} tensors are of no known network: {listed(strange)}", stacklevel=3)
        return cls(path, tensors, config)

    @property
    def is_the_authors(self) -> bool:
        """Whether any tensor carries a name of the authors; files with diffusers' names do not."""
        return any(part_of(name) for name in self.tensors)

    def state(
        self, part: Part, expected: Mapping[str, Tensor], own: Mapping[str, Any], preset: str
    ) -> dict[str, Tensor]:
        """Read the weights of one network, after names, shapes and header were found to be those of a preset.

        Args:
            part: the network.
            expected: its state dict, for names, shapes and dtypes; its tensors may lie on "meta".
            own: constructor arguments of its diffusers class, all of them.
            preset: named in the messages.

        Returns:
            The tensors by diffusers' names, in the expected dtypes.

        Raises:
            ValueError: when the file has no such network, or not that of the preset.
        """
        sources = self._checked(part, expected, own, preset)
        return read_tensors(sources, {name: expected[name].dtype for name in sources})

    def _checked(
        self, part: Part, expected: Mapping[str, Tensor], own: Mapping[str, Any], preset: str
    ) -> dict[str, Stored]:
        try:
            sources = {new: self.tensors[name] for new, name in diffusers_names(self.tensors, part).items()}
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error
        if not sources:
            others = [each for each in PARTS if each != part and any(part_of(name) == each for name in self.tensors)]
            raise ValueError(
                f"{self.path}: holds no weights of {part}, only of {listed(others)}; pass the whole file of the release"
            )
        tensors, header = differences(sources, expected), listed(contradictions(self.config, part, own))
        wrong = [f"{where}: {what}" for where, what in (("header", header), ("tensors", tensors)) if what]
        if wrong:
            raise ValueError(
                f"{self.path}: {part}: not that of preset {preset!r} ({', '.join(wrong)}); "
                "pass the preset that the file was made for"
            )
        unsaid = silent(self.config, part, own) if self.config else [f"any setting of {part}"]
        if unsaid:
            warnings.warn(f"{self.path}: its header does not tell {listed(unsaid)}; the preset decides", stacklevel=4)
        return sources


def load_part(file: SingleFile, part: Part, network: nn.Module, preset: str, dtype: torch.dtype | None) -> None:
    """Give a diffusers network the weights of a file.

    Args:
        file: the file.
        part: which network it is.
        network: built by the preset; its parameters may lie on "meta".
        preset: named in the messages.
        dtype: of the weights; None is float32.

    Raises:
        ValueError: as `SingleFile.state`.
    """
    wanted = dtype or torch.float32
    expected = {name: weight.to(device="meta", dtype=wanted) for name, weight in network.state_dict().items()}
    network.load_state_dict(file.state(part, expected, dict(network.config), preset), assign=True)  # type: ignore[arg-type]


Config = Mapping[str, Any]

_SAME_NAME = (
    *("num_attention_heads", "attention_head_dim", "cross_attention_dim", "in_channels", "out_channels"),
    *("audio_num_attention_heads", "audio_attention_head_dim", "audio_cross_attention_dim", "audio_in_channels"),
    *("audio_out_channels", "num_layers", "caption_channels", "norm_eps", "rope_type", "timestep_scale_multiplier"),
    *("ff_bias", "audio_ff_bias", "use_prompt_adaln_single", "use_keyframes_abs_pos_embedding"),
)

# What the authors' code takes when the header is silent, where that cannot be seen in any shape.
_SILENT: dict[Part, dict[str, object]] = {
    "transformer": {"av_ca_timestep_scale_multiplier": 1, "frequencies_precision": "float32"},
    "connectors": {"connector_positional_embedding_max_pos": [1]},
}


def _transformer(own: Config) -> dict[str, Any]:
    return {name: own[name] for name in _SAME_NAME if name in own} | {
        "av_ca_timestep_scale_multiplier": own["cross_attn_timestep_scale_multiplier"],
        "positional_embedding_theta": own["rope_theta"],
        "frequencies_precision": _precision(own),
        "positional_embedding_max_pos": [own["pos_embed_max_pos"], own["base_height"], own["base_width"]],
        "audio_positional_embedding_max_pos": [own["audio_pos_embed_max_pos"]],
        "apply_gated_attention": own["gated_attn"],
        "cross_attention_adaln": own["cross_attn_mod"],
        "caption_proj_before_connector": not own["use_prompt_embeddings"],
    }


def _connectors(own: Config) -> dict[str, Any]:
    sizes = ("num_attention_heads", "attention_head_dim", "num_layers")
    audio = {f"audio_connector_{name}": own[f"audio_connector_{name}"] for name in sizes}
    return audio | {
        **{f"connector_{name}": own[f"video_connector_{name}"] for name in (*sizes, "num_learnable_registers")},
        "connector_positional_embedding_max_pos": [own["connector_rope_base_seq_len"]],
        "connector_apply_gated_attention": own["video_gated_attn"],
        "positional_embedding_theta": own["rope_theta"],
        "frequencies_precision": _precision(own),
        "rope_type": own["rope_type"],
        "caption_channels": own["caption_channels"],
        "caption_proj_before_connector": own["per_modality_projections"],
    }


def _vae(own: Config) -> dict[str, Any]:
    padding = {name: own[name] for name in ("encoder_spatial_padding_mode", "decoder_spatial_padding_mode")}
    if len(set(padding.values())) == 1:
        padding["spatial_padding_mode"] = own["decoder_spatial_padding_mode"]
    same = ("in_channels", "out_channels", "latent_channels", "patch_size", "timestep_conditioning")
    return padding | {name: own[name] for name in same} | {"causal_decoder": own["decoder_causal"]}


def _audio_vae(own: Config) -> dict[str, Any]:
    same = ("ch_mult", "num_res_blocks", "in_channels", "mel_bins", "norm_type", "causality_axis", "double_z")
    renamed = {"ch": own["base_channels"], "z_channels": own["latent_channels"], "out_ch": own["output_channels"]}
    network = {"ddconfig": {name: own[name] for name in same} | renamed, "sampling_rate": own["sample_rate"]}
    mel = {"hop_length": own["mel_hop_length"]}
    return {
        "model": {"params": network},
        "preprocessing": {"stft": mel, "mel": {"n_mel_channels": own["mel_bins"]}},
    }


def _vocoder(own: Config) -> dict[str, Any]:
    if "bwe_hidden_channels" not in own:
        rate = own["output_sampling_rate"]
        return _generator(own, "") | {"output_sampling_rate": rate, "output_sample_rate": rate}
    analysis = {
        "n_fft": own["filter_length"],
        "win_size": own["window_length"],
        "num_mels": own["num_mel_channels"],
        **{name: own[name] for name in ("hop_length", "input_sampling_rate", "output_sampling_rate")},
    }
    return {"vocoder": _generator(own, ""), "bwe": _generator(own, "bwe_") | analysis}


def _generator(own: Config, prefix: str) -> dict[str, Any]:
    return {
        "upsample_initial_channel": own[f"{prefix}hidden_channels"],
        "upsample_rates": own[f"{prefix}upsample_factors"],
        "upsample_kernel_sizes": own[f"{prefix}upsample_kernel_sizes"],
        "resblock_kernel_sizes": own[f"{prefix}resnet_kernel_sizes"],
        "resblock_dilation_sizes": own[f"{prefix}resnet_dilations"],
        "use_tanh_at_final": own[f"{prefix}final_act_fn"] == "tanh",
        "use_bias_at_final": own[f"{prefix}final_bias"],
    }


def _precision(own: Config) -> str:
    return "float64" if own["rope_double_precision"] else "float32"


# The section of the header that tells about a network, and what it should say.
_SECTIONS: dict[Part, tuple[str, Callable[[Config], dict[str, Any]]]] = {
    "transformer": ("transformer", _transformer),
    "connectors": ("transformer", _connectors),
    "vae": ("vae", _vae),
    "audio_vae": ("audio_vae", _audio_vae),
    "vocoder": ("vocoder", _vocoder),
}


def contradictions(header: Config, part: Part, own: Config) -> list[str]:
    """Say where a header contradicts a network; what the header does not tell is passed over.

    Args:
        header: the `config` entry of the file's header.
        part: the network.
        own: constructor arguments of the diffusers class, all of them.

    Returns:
        Sentences such as "transformer.num_layers = 44, not 48".
    """
    section, expected = _SECTIONS[part]
    return list(_compared(header.get(section) or {}, expected(own), section))


def silent(header: Config, part: Part, own: Config) -> list[str]:
    """Name what a header does not tell although the authors' code would then compute something else."""
    section, expected = _SECTIONS[part]
    told, needed = header.get(section) or {}, _plain(expected(own))
    missing = {name: taken for name, taken in _SILENT.get(part, {}).items() if name not in told}
    return [
        f"{section}.{name} (the authors' code takes {taken} then, this preset {needed[name]})"
        for name, taken in missing.items()
        if needed[name] != taken
    ]


def _compared(told: Any, needed: dict[str, Any], path: str) -> list[str]:
    if not isinstance(told, Mapping):
        return [f"{path} = {told!r}, not an object"]
    found: list[str] = []
    for name in sorted(needed.keys() & told.keys()):
        value, wanted = told[name], _plain(needed[name])
        if isinstance(wanted, dict):
            found += _compared(value, wanted, f"{path}.{name}")
        elif value != wanted:
            found.append(f"{path}.{name} = {value!r}, not {wanted!r}")
    return found


def _plain(value: Any) -> Any:
    """A value as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(value))
