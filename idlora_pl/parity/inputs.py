"""The inputs of a forward case as an `AVSequence`.

Letters: B batch, Nv video tokens, Na audio tokens, L text tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.in_context import InContext
from idlora_pl.method.positions import Precision
from idlora_pl.method.tokens import AVSequence, TextContext, Tokens
from idlora_pl.parity.cases import Case
from idlora_pl.parity.findings import Findings
from idlora_pl.parity.masks import reference_sees_text, video_sees_reference
from idlora_pl.parity.models import channels_of

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
