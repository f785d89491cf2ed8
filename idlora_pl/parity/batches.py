"""The batch, the draws and the recipe of a training case, as our training takes them.

Letters: B batch, C channels, F H W the video latent grid, T target and R reference audio steps, M frequency bins,
L text tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from idlora_pl.data.samples import PairBatch
from idlora_pl.method.in_context import InContext
from idlora_pl.method.positions import Geometry, Precision
from idlora_pl.method.tokens import TextContext, TextFeatures
from idlora_pl.parity.cases import Case
from idlora_pl.parity.findings import Findings
from idlora_pl.parity.masks import hidden as hidden_in
from idlora_pl.parity.masks import hidden_keys, hidden_text, reference_sees_text, video_sees_reference
from idlora_pl.training.noise import Noise
from idlora_pl.training.objective import Objective, noisy_sequence, velocity_targets

FAITHFUL = Objective(first_frame_coin="batch", padding_in_loss=True, target_precision="stored")
"""The authors' objective: every choice of ours that has a faithful value at that value."""


@dataclass(frozen=True)
class TrainingCase:
    """What a training case gives.

    Attributes:
        batch: latents of targets and references.
        text: context of the prompts.
        recipe: how the reference enters the sequence.
        first_frame: (B,) bool, whether the first latent frame is given clean.
        with_reference: whether the case has a reference.
    """

    batch: PairBatch
    text: TextContext
    recipe: InContext
    first_frame: Tensor
    with_reference: bool


def read_training(case: Case, text: TextContext | None = None) -> TrainingCase:
    """Read a training case.

    Args:
        case: the case.
        text: context of the prompts; None reads `batch.video_prompt_embeds` and `batch.audio_prompt_embeds`.
    """
    video = case.tensor("batch.video_latents", None, None, None, None, None)
    audio = case.tensor("batch.audio_latents", len(video), None, None, None)
    with_reference = case.has("batch.ref_audio_latents")
    reference = audio[:, :, :0]
    if with_reference:
        reference = case.tensor("batch.ref_audio_latents", len(video), audio.shape[1], None, audio.shape[3])
    if text is None:
        pictures = case.tensor("batch.video_prompt_embeds", len(video), None, None)
        text = TextContext(pictures, case.tensor("batch.audio_prompt_embeds", len(video), pictures.shape[1], None))
    features = TextFeatures(text.video, text.audio, torch.ones(text.video.shape[:2], dtype=torch.bool))
    batch = PairBatch(video, audio, reference, features, [{"key": str(index)} for index in range(len(video))])
    sizes = video[0, 0].numel(), audio.shape[2] + reference.shape[2], reference.shape[2]
    return TrainingCase(batch, text, _recipe(case, text, *sizes), _first_frame(case, video), with_reference)


def _recipe(case: Case, text: TextContext, n_video: int, n_audio: int, n_reference: int) -> InContext:
    """Return the recipe that the prepared inputs stand for; without them, that of the released configurations."""
    if not case.has("prep.audio_coords"):
        return InContext(hidden_text="uniform")
    batch, n_text, _ = text.audio.shape
    coords = case.tensor("prep.audio_coords", batch, 1, n_audio, 2)
    precision: Precision = "bfloat16" if coords.dtype == torch.bfloat16 else "float32"
    negative = not n_reference or bool((coords[:, :, :n_reference, 0] < 0).all())
    padding = torch.zeros(batch, n_text, dtype=torch.bool)
    sees_reference = video_sees_reference(case, "prep.a2v_mask", (batch, n_video, n_audio), n_reference)
    sees_text, hidden_text = reference_sees_text(
        case, "prep.audio_text_mask", padding, (batch, n_audio, n_text), n_reference
    )
    return InContext("negative" if negative else "shared", sees_reference, sees_text, hidden_text, precision)


def _first_frame(case: Case, video: Tensor) -> Tensor:
    """Return whether the first latent frame is given: p is 0 or 1, or the prepared timesteps tell.

    A clip of one latent frame has none to give (spec section 3.2).
    """
    batch, _, frames, rows, columns = video.shape
    p = case.number("first_frame_conditioning_p", least=0) if case.has_field("first_frame_conditioning_p") else None
    if p in (0, 1):
        return torch.full((batch,), bool(p) and frames > 1)
    if not case.has("prep.video_timesteps"):
        raise case.wrong(
            "first_frame_conditioning_p", f"is {p}; it must be 0 or 1 where prep.video_timesteps is missing"
        )
    timesteps = case.tensor("prep.video_timesteps", batch, frames * rows * columns)
    return (timesteps[:, : rows * columns] == 0).all(dim=1) & (frames > 1)


def read_draws(case: Case, given: TrainingCase, sigma: str, video: str, audio: str) -> Noise:
    """Return noise level and noise of one step, of the tensors with these names."""
    batch, channels, *_ = given.batch.target_video.shape
    _, audio_channels, n_audio, bins = given.batch.target_audio.shape
    return Noise(
        case.tensor(sigma, batch),
        case.tensor(video, batch, given.batch.target_video[0, 0].numel(), channels),
        case.tensor(audio, batch, n_audio, audio_channels * bins),
        given.first_frame,
    )


def compare_prepared(findings: Findings, given: TrainingCase, noise: Noise, geometry: Geometry) -> None:
    """Compare the prepared inputs: noisy tokens, timesteps, positions, masks, targets, loss masks."""
    av = noisy_sequence(given.recipe, geometry, given.batch, noise, given.text, with_reference=given.with_reference)
    video, audio = velocity_targets(given.batch, noise, FAITHFUL)
    prepared = {
        "video_noisy": av.video.latents,
        "audio_combined": av.audio.latents,
        "video_timesteps": av.video.timesteps(noise.sigma),
        "audio_timesteps": av.audio.timesteps(noise.sigma),
        "video_coords": av.video.positions,
        "audio_coords": av.audio.positions,
        "video_targets": video,
        "audio_targets": audio,
    }
    for name, ours in prepared.items():
        if findings.case.has(f"prep.{name}"):
            findings.tensor(f"prep.{name}", ours, bounds=("prep", "loss_abs"))
            findings.equal(f"prep.{name} dtype", ours.dtype, findings.case.tensors[f"prep.{name}"].dtype)
    for name, mask in {"video_loss_mask": ~av.video.clean, "audio_loss_mask": ~av.audio.clean}.items():
        if findings.case.has(f"prep.{name}"):
            stored = findings.case.tensor(f"prep.{name}", *mask.shape)
            findings.pattern(f"prep.{name}", mask, stored.bool())
    for name, hides in {"a2v_mask": hidden_keys(av), "audio_text_mask": hidden_text(av)}.items():
        if findings.case.has(f"prep.{name}"):
            stored = hidden_in(findings.case, f"prep.{name}", *hides.shape)
            findings.pattern(f"prep.{name}", hides, stored)
