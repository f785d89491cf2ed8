"""Checks of training: train_step, train_inputs_stored_dtypes.

The batch, the draws and the recipe of a case are put as our training takes them.
Letters: B batch, N tokens, C channels, S steps, F H W the video latent grid, T target and R reference audio steps,
M frequency bins, L text tokens.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from idlora_pl.data.samples import PairBatch
from idlora_pl.ltx2.lora import attach_lora, attached_lora, load_lora_state_dict, lora_state_dict
from idlora_pl.ltx2.presets import PRESETS
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.in_context import InContext
from idlora_pl.method.positions import Geometry, Precision
from idlora_pl.method.tokens import TextContext, TextFeatures
from idlora_pl.parity.cases import LAYOUTS, Case, read_tensors
from idlora_pl.parity.findings import Findings
from idlora_pl.parity.models import (
    all_rows,
    hidden_keys,
    hidden_text,
    model_of,
    reference_sees_text,
    video_sees_reference,
)
from idlora_pl.parity.models import hidden as hidden_in
from idlora_pl.training.noise import Noise
from idlora_pl.training.objective import Objective, flow_losses, noisy_sequence, velocity_targets
from idlora_pl.training.optimizer import AdamW, build_optimizer

FORWARD_BOUND = 5e-6
"""Bound on predictions where `tolerance` names none for them (spec section 7)."""

RUN_BOUND = 1e-2
"""Bound on the weights after some steps where `tolerance` names none, as a part of the learning rate. AdamW divides a
gradient by its own size, so that noise on a small gradient moves a weight by a visible part of the rate."""

CLIP_NORM = 1.0
"""Gradients are clipped at this norm, as `trainer.gradient_clip_val` does (spec section 3.4)."""

VARIANTS: dict[str, dict[str, Any]] = {
    "base_without_lora": {},
    "no_first_frame": {},
    "no_masks": {"video_sees_reference": True, "reference_sees_text": True},
    "a2v_only": {"video_sees_reference": False, "reference_sees_text": True},
    "text_only": {"video_sees_reference": True, "reference_sees_text": False, "hidden_text": "uniform"},
    "positive_positions": {"placement": "shared"},
}
"""What a variant of the loss changes in the recipe; the first two change the model and the draws."""

_RUN = re.compile(r"train\d+\.")


def check_stored_dtypes(findings: Findings) -> None:
    """Compare the prepared inputs of a batch in the dtypes of the stored dataset, values and dtypes."""
    case = findings.case
    # without a reference there is no such mask, and the length of the text says nothing
    n_text = case.tensor("prep.audio_text_mask", None, None, None).shape[2] if case.has("prep.audio_text_mask") else 1
    empty = torch.zeros(len(case.tensor("batch.video_latents")), n_text, 1)
    given = read_training(case, TextContext(empty, empty))
    geometry = PRESETS[case.layout if case.has_field("layout") else LAYOUTS[0]].geometry
    fps = case.positive("fps") if case.has_field("fps") else geometry.video.frame_rate_fps
    geometry = replace(geometry, video=replace(geometry.video, frame_rate_fps=fps))
    compare_prepared(findings, given, read_draws(case, given, "sigma", "noise.video", "noise.audio"), geometry)


def check_train_step(findings: Findings) -> None:
    """Compare one training step: prepared inputs, predictions, losses, gradients; then a few optimiser steps."""
    case = findings.case
    model = model_of(case, frame_rate_fps=case.positive("fps"))
    given = read_training(case)
    noise = read_draws(case, given, "sigma.0", "noise.0.video", "noise.0.audio")
    compare_prepared(findings, given, noise, model.geometry)
    _compare_variants(findings, model, given, noise)
    _attach(findings, model)
    with all_rows(model) as seen:
        losses = _losses(model, given, noise)
    for name, rows in zip(("pred.video", "pred.audio"), seen[0], strict=True):
        if case.has(name):
            findings.tensor(name, rows, bound=_prediction_bound(case))
    for name, value in zip(("total", "video", "audio"), losses.detach(), strict=True):
        if case.has(f"loss.{name}"):
            findings.tensor(f"loss.{name}", value, bound=_loss_bound(case, f"loss.{name}", value))
    if case.has_field("loss"):
        _compare_listed(findings, "loss", losses.detach())
    _compare_gradients(findings, model, losses[0])
    _compare_variants(findings, model, given, noise)
    _compare_run(findings, model, given)


def _losses(model: LTX2, given: TrainingCase, noise: Noise) -> Tensor:
    """Return (total, video, audio)."""
    losses = flow_losses(
        model, given.recipe, given.batch, noise, given.text, objective=FAITHFUL, with_reference=given.with_reference
    )
    return torch.stack([losses["video"] + losses["audio"], losses["video"], losses["audio"]])


def _prediction_bound(case: Case) -> float:
    tolerance = case.field("tolerance")
    return case.bound("pred") if not isinstance(tolerance, dict) or "pred" in tolerance else FORWARD_BOUND


def _compare_listed(findings: Findings, field: str, ours: Tensor) -> None:
    """Compare a field that lists [total, video, audio]."""
    stored = findings.case.items(field, float)
    if len(stored) != len(ours):
        raise findings.case.wrong(field, f"has {len(stored)} numbers; it must have total, video and audio")
    error = (ours.double() - torch.tensor(stored, dtype=torch.float64)).abs().max().item()
    findings.number(field, error, 0.0, _loss_bound(findings.case, field, ours))


def _loss_bound(case: Case, name: str, losses: Tensor) -> float:
    """Return the bound on a loss: that of the case, but at least two steps of float32 at the size of the loss."""
    _, exponent = math.frexp(losses.abs().max().item())
    return max(case.bound(name, "loss_abs"), 2 * 2.0 ** (exponent - 24))


def _compare_variants(findings: Findings, model: LTX2, given: TrainingCase, noise: Noise) -> None:
    """Compare the losses of variants; `base_without_lora` as long as the model has no adapter, then the others."""
    case = findings.case
    listed = case.mapping("loss_variants") if case.has_field("loss_variants") else {}
    for name in sorted({name.removeprefix("loss_variant.") for name in case.names("loss_variant.")} | set(listed)):
        if name not in VARIANTS:
            raise case.wrong_tensor(f"loss_variant.{name}", f"is unknown; variants are {', '.join(VARIANTS)}")
        if (attached_lora(model) is None) != (name == "base_without_lora"):
            continue
        changed = replace(given, recipe=replace(given.recipe, **VARIANTS[name]))
        draws = replace(noise, first_frame=torch.zeros_like(noise.first_frame)) if name == "no_first_frame" else noise
        with torch.no_grad():
            ours = _losses(model, changed, draws)
        if case.has(f"loss_variant.{name}"):
            findings.tensor(f"loss_variant.{name}", ours, bound=_loss_bound(case, f"loss_variant.{name}", ours))
        if name in listed:
            _compare_listed(findings, f"loss_variants.{name}", ours)


def _attach(findings: Findings, model: LTX2) -> None:
    """Attach the adapter of the case and compare what the JSON says about it."""
    case = findings.case
    path, rank = case.file("lora"), case.whole("lora_rank", least=1)
    targets = case.items("target_modules", str)
    try:
        attach_lora(model, rank, case.number("lora_alpha"), tuple(targets))
        load_lora_state_dict(model, read_tensors(path))
    except ValueError as error:
        raise case.wrong("lora", f"names {path.name}, which is refused: {error}") from error


def _trained(model: LTX2) -> dict[str, Tensor]:
    """Return what is trained, by the names of the adapter file without prefix."""
    named = model.transformer.named_parameters()
    return {name.replace(".default.weight", ".weight"): weight for name, weight in named if weight.requires_grad}


def _compare_gradients(findings: Findings, model: LTX2, loss: Tensor) -> None:
    case, weights = findings.case, _trained(model)
    gradients = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    for name in case.names("grad."):
        if (weight := name.removeprefix("grad.")) not in gradients:
            raise case.wrong_tensor(name, "is the gradient of nothing that the adapter trains")
        findings.tensor(name, gradients[weight], bounds=("grad_rel",), relative=True)
    if case.has("grad_norm"):
        norm = torch.nn.utils.get_total_norm(list(gradients.values()))
        findings.tensor("grad_norm", norm, bounds=("grad_rel",), relative=True)


def _compare_run(findings: Findings, model: LTX2, given: TrainingCase) -> None:
    """Compare some optimiser steps from the adapter of the case on: losses, norms, rates, and the weights after."""
    case = findings.case
    runs = sorted({found[0] for name in case.tensors if (found := _RUN.match(name))})
    for run in runs:
        steps = int(run.removeprefix("train").removesuffix("."))
        load_lora_state_dict(model, read_tensors(case.file("lora")))
        rates = case.tensor(f"{run}lrs", steps)
        weights = _trained(model)
        built = build_optimizer(AdamW(learning_rate=float(rates[0]), state_bits="32"), weights.values(), steps)
        optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]  # type: ignore[index]
        losses, norms, used = [], [], []
        for step in range(steps):
            names = (f"sigma.{step}", f"noise.{step}.video", f"noise.{step}.audio")
            optimizer.zero_grad()
            loss = _losses(model, given, read_draws(case, given, *names))
            loss[0].backward()
            norms.append(torch.nn.utils.clip_grad_norm_(weights.values(), CLIP_NORM))
            losses.append(loss.detach())
            used.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        rate = max(float(rates[0]) * RUN_BOUND, case.bound(f"{run}final", "loss_abs"))
        findings.tensor(f"{run}losses", torch.stack(losses), bound=_loss_bound(case, f"{run}losses", losses[0]))
        findings.tensor(f"{run}grad_norms", torch.stack(norms), bounds=("grad_rel",), relative=True)
        findings.tensor(f"{run}lrs", torch.tensor(used, dtype=torch.float64), bounds=("loss_abs",))
        state = lora_state_dict(model)
        for name in case.names(f"{run}final."):
            if (weight := name.removeprefix(f"{run}final.")) not in state:
                raise case.wrong_tensor(name, "is nothing that the adapter trains")
            findings.tensor(name, state[weight], bound=rate)


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
