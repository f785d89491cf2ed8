"""Checks of training: train_step, train_inputs_stored_dtypes.

Letters: B batch, N tokens, C channels, S steps.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from idlora_pl.ltx2.lora import attach_lora, attached_lora, load_lora_state_dict, lora_state_dict
from idlora_pl.ltx2.presets import PRESETS
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.tokens import TextContext
from idlora_pl.parity.batches import FAITHFUL, TrainingCase, compare_prepared, read_draws, read_training
from idlora_pl.parity.cases import LAYOUTS, Case
from idlora_pl.parity.findings import Findings
from idlora_pl.parity.models import all_rows, model_of
from idlora_pl.parity.reading import read_tensors
from idlora_pl.training.noise import Noise
from idlora_pl.training.objective import flow_losses
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
