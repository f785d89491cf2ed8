"""Checks of numbers that need no model: positions, sigmas, timestep_sampler.

Letters: B batch, N tokens, F H W the video latent grid.
"""

from __future__ import annotations

import re

import torch

from idlora_pl.ltx2.schedule import DISTILLED_SIGMAS, STAGE_2_SIGMAS, sigmas
from idlora_pl.method import flow
from idlora_pl.parity.cases import Case
from idlora_pl.parity.findings import Findings

_SCHEDULE = re.compile(r"sigmas\.(\d+)(\.nostretch)?\.tokens(\d+)")
_SETTINGS = {"eps": flow.LEAST_LEVEL, "uniform_prob": flow.UNIFORM_PART}
"""What a case may set for the stretched levels, and what the trainer sets."""

_LEVELS = re.compile(r"v([12])\.sigma\.(\d+)")


def check_sigmas(findings: Findings) -> None:
    """Compare the noise levels of sampling: the schedule, and the constants of the distilled stages."""
    constants = {"distilled": DISTILLED_SIGMAS, "stage2": STAGE_2_SIGMAS}
    for name in _all_names(findings.case):
        found = _SCHEDULE.fullmatch(name)
        if name in constants:
            findings.tensor(name, torch.tensor(constants[name]))
        elif found is None:
            known = "sigmas.<steps>.tokens<n>, sigmas.<steps>.nostretch.tokens<n>, distilled, stage2"
            raise findings.case.wrong_tensor(name, f"is an unknown schedule; names are {known}")
        else:
            if int(found[1]) < 2:
                raise findings.case.wrong_tensor(name, "has fewer than 2 steps, which our schedule does not know")
            findings.tensor(name, sigmas(int(found[1]), int(found[3]), terminal=None if found[2] else 0.1))


def check_timestep_sampler(findings: Findings) -> None:
    """Compare the noise levels of training: the shift, and what both trainers make of the same draws."""
    case = findings.case
    for tokens in case.mapping("shift"):
        if not tokens.isdigit():
            raise case.wrong(f"shift.{tokens}", "must be named by a number of video tokens")
        findings.number(
            f"shift.{tokens}", flow.sigma_shift(int(tokens)), case.number(f"shift.{tokens}"), bound=case.bound("shift")
        )
    std = case.positive("std") if case.has_field("std") else 1.0
    for field, ours in {"p999": flow.HIGH_QUANTILE, "p005": flow.LOW_QUANTILE}.items():
        if case.has_field(field):  # of the standard normal distribution, or of that with the case's deviation
            stored = case.number(field)
            findings.number(field, min(ours, ours * std, key=lambda one: abs(one - stored)), stored)
    least, part = (case.number(name, least=0) if case.has_field(name) else ours for name, ours in _SETTINGS.items())
    stretch = {"std": std, "least": least, "uniform_part": part}
    draws = {"normals", "uniform", "prob"}
    compared = [name for name in _all_names(case) if name not in draws]
    if not compared:
        raise case.wrong_tensor("v1.sigma.<tokens>", "is missing, as is v2.sigma.<tokens>")
    for name in compared:
        found = _LEVELS.fullmatch(name)
        if found is None:
            raise case.wrong_tensor(name, "is unknown; names are v1.sigma.<tokens>, v2.sigma.<tokens>")
        normals, shift = case.tensor("normals", None), flow.sigma_shift(int(found[2]))
        if found[1] == "1":
            findings.tensor(name, flow.logit_normal_sigma(normals, shift, std=std))
        else:
            uniform, prob = case.tensor("uniform", len(normals)), case.tensor("prob", len(normals))
            findings.tensor(name, flow.stretched_sigma(normals, uniform, prob, shift, **stretch))


def _all_names(case: Case) -> list[str]:
    names = case.names("")
    if not names:
        raise case.wrong("tensors", "is empty; there is nothing to compare")
    return names
