"""Checks of single calls of the model: forward, perturbed_forward, contrast.

Letters: B batch, N tokens, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.guidance import Perturbation, Velocities
from idlora_pl.method.tokens import AVSequence
from idlora_pl.parity.cases import Case
from idlora_pl.parity.findings import Findings, distance
from idlora_pl.parity.models import forward_inputs, model_of, remark_positions, velocities

MIXED = "mixed_"


def check_forward(findings: Findings) -> None:
    """Compare one call of the model, the rows of reference tokens included."""
    model, av, sigma = _prepare(findings)
    for modality, ours in zip(("video", "audio"), velocities(model, av, sigma), strict=True):
        findings.tensor(f"out.{modality}", ours)


def check_perturbed(findings: Findings) -> None:
    """Compare calls with perturbed self-attention or isolated modalities, in all samples or in some."""
    case = findings.case
    model, av, sigma = _prepare(findings)
    n_blocks = len(model.transformer.transformer_blocks)
    blocks = tuple(case.items("stg_blocks", int))
    if any(not 0 <= block < n_blocks for block in blocks):
        raise case.wrong("stg_blocks", f"is {list(blocks)}; the model has the blocks 0..{n_blocks - 1}")
    twins = {
        "stg_av": Perturbation(blocks),
        "stg_v": Perturbation(blocks, "video"),
        "stg_a": Perturbation(blocks, "audio"),
        "isolated": Perturbation(isolate=True),
    }
    names = sorted({name.split(".")[1] for name in case.names("out.")})
    if not names:
        raise case.wrong_tensor("out.stg_av.video", "is missing, as is every other output")
    for name in names:
        twin = twins.get(name.removeprefix(MIXED))
        if twin is None:
            raise case.wrong_tensor(f"out.{name}", f"is an unknown perturbation; they are {', '.join(twins)}")
        ours = velocities(model, av, sigma, perturbation=twin)
        if name.startswith(MIXED):
            ours = _mixed(findings, name, velocities(model, av, sigma), ours)
        for modality, velocity in zip(("video", "audio"), ours, strict=True):
            findings.tensor(f"out.{name}.{modality}", velocity)


def _mixed(findings: Findings, name: str, plain: Velocities, perturbed: Velocities) -> Velocities:
    """Return the velocities of a batch of which the authors' code perturbs some samples: of two the second one.

    No field tells which for other batch sizes: there it is the samples whose stored rows are nearer to a perturbed
    call than to a plain one.
    """
    batch = len(plain[0])
    samples = torch.tensor([False, True])
    if batch != 2:
        stored = [findings.case.tensor(f"out.{name}.{m}", batch, None, None) for m in ("video", "audio")]
        near, far = (
            sum((ours - theirs).abs().flatten(1).sum(1) for ours, theirs in zip(run, stored, strict=True))
            for run in (perturbed, plain)
        )
        samples = torch.as_tensor(near < far)
        findings.remark(f"{name}: the samples {samples.nonzero().flatten().tolist()} are taken as perturbed")
    rows = samples[:, None, None]
    return torch.where(rows, perturbed[0], plain[0]), torch.where(rows, perturbed[1], plain[1])


def check_contrast(findings: Findings) -> None:
    """Say how far another convention is from ours; agreement is not expected."""
    case = findings.case
    model = model_of(case)
    av, sigma = forward_inputs(case, model)
    for modality, ours in zip(("video", "audio"), velocities(model, av, sigma), strict=True):
        stored = case.tensor(f"out.{modality}", *ours.shape)
        findings.remark(f"out.{modality} differs by {distance(ours, stored):.2g}; agreement is not expected")


def _prepare(findings: Findings) -> tuple[LTX2, AVSequence, Tensor]:
    case: Case = findings.case
    model = model_of(case, frame_rate_fps=case.positive("dims.fps"))
    av, sigma = forward_inputs(case, model)
    remark_positions(findings, model, av)
    return model, av, sigma
