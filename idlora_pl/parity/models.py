"""The model of a case and its inputs: our `LTX2` with the case's architecture and weights, and an `AVSequence`.

Masks that cases store densely stand for the flags of a recipe.
Letters: B batch, Nv video tokens, Na audio tokens, L text tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from idlora_pl.ltx2.attention import text_bias
from idlora_pl.ltx2.presets import PRESETS
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.in_context import InContext
from idlora_pl.method.positions import AudioGrid, Geometry, Precision, VideoGrid
from idlora_pl.method.tokens import AVSequence, HiddenText, TextContext, Tokens
from idlora_pl.parity.cases import LAYOUTS, Case, CaseError, read_fields, read_tensors
from idlora_pl.parity.findings import Findings

WEIGHTS = ("model_weights", "weights")
"""The field that names the weights: the first in forward cases, the second elsewhere."""

BARE = ("train_step", "contrast")
"""Kinds without `diffusers_config`."""


def model_of(case: Case, *, frame_rate_fps: float = 25.0) -> LTX2:
    """Build the model of a case and load its weights.

    Args:
        case: names layout, weights and configuration.
        frame_rate_fps: of the case's clips; it sets the time axis of video positions.

    Raises:
        CaseError: when one of them is missing, or the weights are not those of the configuration.
    """
    field = next((name for name in WEIGHTS if case.has_field(name)), WEIGHTS[1])
    path = case.file(field)
    model = empty_model(case, configuration(case), frame_rate_fps=frame_rate_fps)
    load_weights(model, path, read_tensors(path))
    return model.requires_grad_(False).eval()


def load_weights(model: LTX2, path: Path, weights: Mapping[str, Tensor]) -> None:
    """Load weights with diffusers' names, every one of them.

    Args:
        model: gets them.
        path: the file they come from, for the message.
        weights: by name.

    Raises:
        CaseError: when a name is missing or unknown, or a shape is not the model's.
    """
    needed = model.transformer.state_dict()
    for name in sorted(needed.keys() | weights.keys()):
        if name not in weights:
            raise CaseError(path.name, name, "is missing; the model of diffusers_config needs it")
        if name not in needed:
            raise CaseError(path.name, name, "is unknown; the model of diffusers_config has no such weight")
        if weights[name].shape != needed[name].shape:
            found, wanted = tuple(weights[name].shape), tuple(needed[name].shape)
            raise CaseError(path.name, name, f"has shape {found}; diffusers_config makes it {wanted}")
    model.transformer.load_state_dict(dict(weights))


def empty_model(case: Case, config: Mapping[str, Any], *, frame_rate_fps: float = 25.0, device: str = "cpu") -> LTX2:
    """Build the model of a configuration with the conventions of the case's layout; its weights are random.

    Only a key map may leave the layout out: it is that of both.

    Raises:
        CaseError: when the layout is unknown or the class refuses the configuration.
    """
    both = case.kind == "adapter_keymap" and not case.has_field("layout")
    layout = PRESETS[LAYOUTS[0] if both else case.layout]
    try:
        preset = replace(layout, config=dict(config), dtype=torch.float32, device=device)
        model = LTX2(preset)
        model.geometry = _geometry(model.transformer.config, frame_rate_fps)
    except (TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, IndexError) as error:
        raise case.wrong(
            "diffusers_config", f"is refused by diffusers' LTX2VideoTransformer3DModel: {error}"
        ) from error
    return model


def configuration(case: Case) -> Mapping[str, Any]:
    """Return `diffusers_config` of the case or, for kinds that have none, that of the JSON beside their weights."""
    if case.has_field("diffusers_config"):
        return case.mapping("diffusers_config")
    field = next((name for name in WEIGHTS if case.has_field(name)), None)
    beside = case.file(field).with_suffix(".json") if field is not None and case.kind in BARE else None
    if beside is None or not beside.is_file():
        place = "" if beside is None else f", as is {beside.name}, which would tell it"
        raise case.wrong("diffusers_config", f"is missing{place}")
    return Case(beside, read_fields(beside), {}).mapping("diffusers_config")


def _geometry(config: Any, frame_rate_fps: float) -> Geometry:
    frames, pixels, _ = config["vae_scale_factors"]
    audio = AudioGrid(config["audio_sampling_rate"], config["audio_hop_length"], config["audio_scale_factor"])
    return Geometry(VideoGrid(frame_rate_fps, frames, pixels), audio)


def channels_of(model: LTX2) -> tuple[int, int]:
    """Return the width of a video and of an audio token."""
    config: Any = model.transformer.config
    return config["in_channels"], config["audio_in_channels"]


@contextmanager
def all_rows(model: LTX2) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect what the transformer returns while the context is open, reference rows included.

    `LTX2` cuts the rows of reference tokens off, because nothing uses them; the cases store them.
    """
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(_module: nn.Module, _arguments: object, output: tuple[Tensor, Tensor]) -> None:
        seen.append((output[0].detach(), output[1].detach()))

    handle = model.transformer.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def with_reference_rows(velocity: Tensor, rows: Tensor, n_reference: int) -> Tensor:
    """Put the rows of reference tokens, out of `all_rows`, in front of a velocity (B, N, C)."""
    return torch.cat([rows[:, :n_reference], velocity.detach()], dim=1)


@torch.no_grad()
def velocities(model: LTX2, av: AVSequence, sigma: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """Run the model once; (B, N, C) of video and audio with the rows of reference tokens."""
    with all_rows(model) as seen:
        video, audio = model(av, sigma, **options)
    (_, rows), *_ = seen
    return video, with_reference_rows(audio, rows, av.audio.n_reference)


KNOWN = (
    "video", "audio", "video_context", "audio_context", "sigma", "video_timesteps", "audio_timesteps",
    "video_coords", "audio_coords", "a2v_mask", "audio_text_mask", "context_mask",
)  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Numbers of a forward case.

    Attributes:
        batch: samples.
        n_video: video tokens.
        n_audio: audio tokens, reference included.
        n_reference: how many of them are the reference.
    """

    batch: int
    n_video: int
    n_audio: int
    n_reference: int


def sizes_of(case: Case) -> Sizes:
    """Return the sizes of a forward case; where it has `dims`, the tensors must agree with them.

    Whether a case has a reference is told by its audio tokens: `dims.target_audio_tokens`, or those and
    `dims.ref_audio_tokens`. Without dims, tokens before time 0 are the reference.
    """
    batch, n_video, _ = case.tensor("in.video", None, None, None).shape
    n_audio = case.tensor("in.audio", batch, None, None).shape[1]
    early = (case.tensor("in.audio_coords", batch, 1, n_audio, 2)[..., 0] < 0).all(dim=0)[0]
    n_early = int(early.int().cumprod(0).sum())
    if not case.has_field("dims"):
        return Sizes(batch, n_video, n_audio, n_early)
    frames, rows, columns = (case.whole(f"dims.latent_{name}", least=1) for name in ("frames", "h", "w"))
    for field, found, dims in (
        ("in.video", batch, case.whole("dims.B", least=1)),
        ("in.video", n_video, case.whole("dims.video_tokens", least=1)),
        ("in.video", n_video, frames * rows * columns),
    ):
        if found != dims:
            raise case.wrong("dims", f"gives {dims} where {field} has {found}")
    n_reference = n_audio - case.whole("dims.target_audio_tokens", least=1)
    if n_reference and n_reference != case.whole("dims.ref_audio_tokens"):
        raise case.wrong(
            "dims.target_audio_tokens", f"and dims.ref_audio_tokens do not make the {n_audio} tokens of in.audio"
        )
    if n_early not in (0, n_reference):
        raise case.wrong_tensor("in.audio_coords", f"puts {n_early} tokens before 0 s; dims say {n_reference}")
    return Sizes(batch, n_video, n_audio, n_reference)


def forward_inputs(case: Case, model: LTX2) -> tuple[AVSequence, Tensor]:
    """Return the sequence and the noise level (B,) of a forward case.

    Raises:
        CaseError: when an input is missing, unknown, or of another shape, or when no sequence stands for it.
    """
    for name in case.names("in."):
        if name.removeprefix("in.") not in KNOWN:
            raise case.wrong_tensor(name, f"is an unknown input; inputs are {', '.join(KNOWN)}")
    sizes, (video_width, audio_width) = sizes_of(case), channels_of(model)
    batch = sizes.batch
    sigma = case.tensor("in.sigma", batch)
    video = Tokens(
        case.tensor("in.video", batch, sizes.n_video, video_width),
        case.tensor("in.video_coords", batch, 3, sizes.n_video, 2),
        _clean(case, "in.video_timesteps", sigma, sizes.n_video),
    )
    audio = Tokens(
        case.tensor("in.audio", batch, sizes.n_audio, audio_width),
        case.tensor("in.audio_coords", batch, 1, sizes.n_audio, 2),
        _clean(case, "in.audio_timesteps", sigma, sizes.n_audio),
        sizes.n_reference,
    )
    text = _text(case, model, batch)
    sees_reference = video_sees_reference(case, "in.a2v_mask", (batch, sizes.n_video, sizes.n_audio), sizes.n_reference)
    n_text = text.audio.shape[1]
    padding = torch.zeros(batch, n_text, dtype=torch.bool) if text.mask is None else ~text.mask
    shape = (batch, sizes.n_audio, n_text)
    sees_text, hidden_text = reference_sees_text(case, "in.audio_text_mask", padding, shape, sizes.n_reference)
    return AVSequence(video, audio, text, sees_reference, sees_text, hidden_text), sigma


def _clean(case: Case, name: str, sigma: Tensor, n_tokens: int) -> Tensor:
    """Return which tokens are clean: their timestep is 0; all others must have the sample's noise level."""
    timesteps = case.tensor(name, len(sigma), n_tokens)
    clean = timesteps == 0
    off = (timesteps - sigma[:, None] * ~clean).abs().max().item()
    if not off <= 1e-6:
        raise case.wrong_tensor(name, f"must hold 0 (clean tokens) and in.sigma alone; it differs by {off:.2g}")
    return clean


def _text(case: Case, model: LTX2, batch: int) -> TextContext:
    config = model.transformer.config
    widths = config["cross_attention_dim"], config["audio_cross_attention_dim"]
    if config["use_prompt_embeddings"]:
        widths = config["caption_channels"], config["caption_channels"]
    video = case.tensor("in.video_context", batch, None, widths[0])
    audio = case.tensor("in.audio_context", batch, video.shape[1], widths[1])
    mask = case.tensor("in.context_mask", batch, video.shape[1]) if case.has("in.context_mask") else None
    if mask is not None and not ((mask == 0) | (mask == 1)).all():
        raise case.wrong_tensor("in.context_mask", "must hold 1 (text) and 0 (padding) alone")
    return TextContext(video, audio, None if mask is None or mask.all() else mask.bool())


def remark_positions(findings: Findings, model: LTX2, av: AVSequence) -> None:
    """Say where the positions that a forward case gives are not those that our grids make of its `dims`."""
    case, grids = findings.case, model.geometry
    frames, rows, columns = (case.whole(f"dims.latent_{name}", least=1) for name in ("frames", "h", "w"))
    rounded = av.video.positions.dtype == torch.bfloat16
    precision: Precision = "bfloat16" if rounded else "float32"
    negative = bool(av.audio.n_reference and (av.audio.positions[0, 0, 0, 0] < 0))
    recipe = InContext("negative" if negative else "shared", positions=precision)
    video = grids.video.positions(frames, rows, columns).expand_as(av.video.positions)
    target = av.audio.target()
    sound = grids.audio.positions(target.n_tokens).expand(len(av.audio.latents), -1, -1, -1)
    reference = av.audio.latents[:, : av.audio.n_reference] if av.audio.n_reference else None
    ours = recipe.assemble(
        replace(av.video, positions=video), replace(target, positions=sound), av.text, reference, grids.audio
    )
    findings.given("in.video_coords", ours.video.positions)
    findings.given("in.audio_coords", ours.audio.positions)


_FILL = -1e29
"""Additive mask values below this hide: finfo.min of float32 and bfloat16, and -inf."""


def hidden(case: Case, name: str, *shape: int) -> Tensor:
    """Return where an additive mask hides, as bool.

    Raises:
        CaseError: when it holds anything but 0 and values that hide. A fill such as -10000 only weakens, and no
            recipe stands for it (spec section 0.4).
    """
    mask = case.tensor(name, *shape)
    if not mask.is_floating_point():
        raise case.wrong_tensor(name, f"is {mask.dtype}; it must be an additive mask of floats")
    hides = (mask < _FILL) | (mask == torch.finfo(mask.dtype).min)
    other = mask[~hides & (mask != 0)]
    if other.numel():
        raise case.wrong_tensor(name, f"holds {other[0].item():g}; it must hold 0 (seen) and finfo.min (hidden) alone")
    return hides


def video_sees_reference(case: Case, name: str, shape: tuple[int, int, int], n_reference: int) -> bool:
    """Return the flag that an audio-to-video mask (B, Nv, Na) stands for; without a mask everything is seen."""
    if not case.has(name):
        return True
    hides = hidden(case, name, *shape)
    if not hides.any():
        return True
    pattern = torch.zeros_like(hides)
    pattern[:, :, :n_reference] = True
    if not torch.equal(hides, pattern):
        raise case.wrong_tensor(name, f"must hide nothing, or the {n_reference} reference tokens from all video tokens")
    return False


def reference_sees_text(
    case: Case, name: str, padding: Tensor, shape: tuple[int, int, int], n_reference: int
) -> tuple[bool, HiddenText]:
    """Return the flags that an audio-to-text mask (B, Na, L) stands for; without a mask everything is seen.

    Args:
        case: holds the mask.
        name: of the mask.
        padding: (B, L) bool, text tokens that nobody sees.
        shape: (B, Na, L).
        n_reference: how many audio tokens are the reference.
    """
    if not case.has(name):
        return True, "uniform"
    hides = hidden(case, name, *shape)
    plain = padding[:, None].expand(shape)
    if torch.equal(hides, plain):
        return True, "uniform"
    pattern = plain.clone()
    pattern[:, :n_reference] = True
    if not torch.equal(hides, pattern):
        raise case.wrong_tensor(
            name, f"must hide padding alone, or also all text from the {n_reference} reference tokens"
        )
    return False, "nothing" if case.tensor(name)[:, :n_reference].isneginf().any() else "uniform"


def hidden_keys(av: AVSequence) -> Tensor:
    """Return which audio tokens are hidden from which video tokens, (B, Nv, Na) bool."""
    batch, n_audio, _ = av.audio.latents.shape
    hides = torch.zeros(batch, av.video.n_tokens, n_audio, dtype=torch.bool)
    if not av.video_sees_reference:
        hides[:, :, : av.audio.n_reference] = True
    return hides


def hidden_text(av: AVSequence) -> Tensor:
    """Return which text tokens are hidden from which audio tokens, (B, Na, L) bool."""
    batch, n_audio, _ = av.audio.latents.shape
    _, bias = text_bias(av, torch.float32)
    hides = torch.zeros(batch, n_audio, av.text.audio.shape[1], dtype=torch.bool)
    return hides if bias is None else hides | (bias < _FILL)
