"""Names of the authors' weights -> names of diffusers, for every network in one of their files.

The file of a release holds the transformer under `model.diffusion_model.`, `vae.`, `audio_vae.`, `vocoder.`, the text
connectors under `model.diffusion_model.{video,audio}_embeddings_connector.` and their projections under
`text_embedding_projection.` (spec section 7; the block order of the VAE from diffusers' conversion script). LTX-2 and
LTX-2.3 differ in which names occur, not in what they mean, so one map serves both.
"""

import re
from collections.abc import Iterable
from typing import Literal, get_args

Part = Literal["transformer", "vae", "audio_vae", "vocoder", "connectors"]
PARTS: tuple[Part, ...] = get_args(Part)

_TRANSFORMER = "model.diffusion_model."
_PREFIXES: dict[str, Part] = {
    f"{_TRANSFORMER}video_embeddings_connector.": "connectors",
    f"{_TRANSFORMER}audio_embeddings_connector.": "connectors",
    "text_embedding_projection.": "connectors",
    _TRANSFORMER: "transformer",
    "vae.": "vae",
    "audio_vae.": "audio_vae",
    "vocoder.": "vocoder",
}

# One component of a dotted name, by part; every other component keeps its name.
_COMPONENTS: dict[Part, dict[str, str]] = {
    "transformer": {
        "patchify_proj": "proj_in",
        "audio_patchify_proj": "audio_proj_in",
        "adaln_single": "time_embed",
        "audio_adaln_single": "audio_time_embed",
        "prompt_adaln_single": "prompt_adaln",
        "audio_prompt_adaln_single": "audio_prompt_adaln",
        "av_ca_video_scale_shift_adaln_single": "av_cross_attn_video_scale_shift",
        "av_ca_audio_scale_shift_adaln_single": "av_cross_attn_audio_scale_shift",
        "av_ca_a2v_gate_adaln_single": "av_cross_attn_video_a2v_gate",
        "av_ca_v2a_gate_adaln_single": "av_cross_attn_audio_v2a_gate",
        "scale_shift_table_a2v_ca_video": "video_a2v_cross_attn_scale_shift_table",
        "scale_shift_table_a2v_ca_audio": "audio_a2v_cross_attn_scale_shift_table",
        "q_norm": "norm_q",
        "k_norm": "norm_k",
    },
    "connectors": {
        "video_embeddings_connector": "video_connector",
        "audio_embeddings_connector": "audio_connector",
        "transformer_1d_blocks": "transformer_blocks",
        "aggregate_embed": "text_proj_in",
        "video_aggregate_embed": "video_text_proj_in",
        "audio_aggregate_embed": "audio_text_proj_in",
        "q_norm": "norm_q",
        "k_norm": "norm_k",
    },
    "vae": {"res_blocks": "resnets"},
    "audio_vae": {},
    "vocoder": {
        "ups": "upsamplers",
        "resblocks": "resnets",
        "conv_pre": "conv_in",
        "conv_post": "conv_out",
        "act_post": "act_out",
    },
}

# Of the statistics of the latents only two are used, by the authors, too.
_STATISTICS = {
    "per_channel_statistics.mean-of-means": "latents_mean",
    "per_channel_statistics.std-of-means": "latents_std",
}
_UNUSED = re.compile(r"per_channel_statistics\.(channel|mean-of-stds|mean-of-stds_over_std-of-means)")
_BLOCK = re.compile(r"(encoder\.down|decoder\.up)_blocks\.(\d+)\.(.+)")


def part_of(name: str) -> Part | None:
    """Which network a name of the authors belongs to; None for a name of no known network.

    Example:
        >>> part_of("model.diffusion_model.patchify_proj.bias"), part_of("proj_in.bias")
        ('transformer', None)
    """
    return next((part for prefix, part in _PREFIXES.items() if name.startswith(prefix)), None)


def diffusers_names(names: Iterable[str], part: Part) -> dict[str, str]:
    """Map the authors' names of one network to diffusers' names.

    Args:
        names: all names of a file; those of other networks are passed over.
        part: the network.

    Returns:
        diffusers' name -> authors' name; without statistics that nobody uses.

    Raises:
        ValueError: when two names mean the same tensor.

    Example:
        >>> diffusers_names(["vocoder.ups.0.bias", "vae.encoder.conv_in.conv.bias"], "vocoder")
        {'upsamplers.0.bias': 'vocoder.ups.0.bias'}
    """
    own = {name: _without_prefix(name, part) for name in names if part_of(name) == part}
    last = max((int(match[2]) for rest in own.values() if (match := _encoder_block(rest))), default=0)
    found: dict[str, str] = {}
    for name, rest in own.items():
        if _UNUSED.fullmatch(rest):
            continue
        new = _renamed(rest, part, last)
        if new in found:
            raise ValueError(f"{found[new]} and {name} are both {new} of {part}; pass a file with one base model")
        found[new] = name
    return found


def _without_prefix(name: str, part: Part) -> str:
    if part == "connectors":
        return name.removeprefix(_TRANSFORMER).removeprefix("text_embedding_projection.")
    return name.removeprefix(_TRANSFORMER if part == "transformer" else f"{part}.")


def _encoder_block(rest: str) -> re.Match[str] | None:
    return _BLOCK.fullmatch(rest) if rest.startswith("encoder.") else None


def _renamed(rest: str, part: Part, last: int) -> str:
    if part in ("vae", "audio_vae") and rest in _STATISTICS:
        return _STATISTICS[rest]
    if part == "vae" and (match := _BLOCK.fullmatch(rest)):
        rest = f"{_video_block(match[1], int(match[2]), last)}.{match[3]}"
    if part == "vocoder":
        rest = rest.replace(".downsample.lowpass.", ".downsample.")
    table = _COMPONENTS[part]
    return ".".join(table.get(component, component) for component in rest.split("."))


def _video_block(side: str, index: int, last: int) -> str:
    """Where a block of the video VAE is in diffusers: the authors count residual and resampling blocks in one list.

    The encoder is residual, down, residual, ..., residual, and its last block is diffusers' `mid_block`; the decoder
    is the mirror image, so its first one is.
    """
    if side == "encoder.down":
        if index == last:
            return "encoder.mid_block"
        return f"encoder.down_blocks.{index // 2}" + (".downsamplers.0" if index % 2 else "")
    if index == 0:
        return "decoder.mid_block"
    return f"decoder.up_blocks.{(index - 1) // 2}" + (".upsamplers.0" if index % 2 else "")
