"""Check of positions: the grids of both modalities, and the reference at negative times.

Letters: N tokens, F H W the video latent grid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from idlora_pl.ltx2.presets import PRESETS
from idlora_pl.method.in_context import InContext
from idlora_pl.method.positions import Precision, VideoGrid
from idlora_pl.method.tokens import AVSequence, TextContext, Tokens
from idlora_pl.parity.cases import LAYOUTS
from idlora_pl.parity.findings import Findings

_PRECISIONS: Mapping[str, Precision] = {"fp32": "float32", "bf16": "bfloat16"}
_KNOWN = "ref.<n>.<p>, target.<n>.<p>, inference_cat.ref<n>.target<m>, video.<F>x<H>x<W>@<fps>.<p>; <p> is fp32 or bf16"
_LARGEST = (20.0, 2048.0, 2048.0)
"""Seconds, rows and columns that the released models divide positions by (spec section 2.2)."""


def check_positions(findings: Findings) -> None:
    """Compare positions made by the recipe in float32, in bfloat16 (the trainer) and mixed (the scripts)."""
    case = findings.case
    for name in case.names(""):
        for pattern, build in _BUILDERS:
            found = re.fullmatch(pattern, name)
            if found is not None:
                ours = build(found)
                stored = case.tensor(name, None, *ours.shape[1:])
                ours = ours.expand_as(stored)
                findings.tensor(name, ours)
                findings.equal(f"{name} dtype", ours.dtype, stored.dtype)
                break
        else:
            raise case.wrong_tensor(name, f"is an unknown name; names are {_KNOWN}")
    if case.has_field("info"):
        for key, facts in case.mapping("info").items():
            _check_info(findings, key, facts)


def _sequence(n_reference: int, n_target: int, precision: Precision, video: Tensor | None = None) -> AVSequence:
    """Assemble a sequence without content, for its positions."""
    grid = PRESETS[LAYOUTS[0]].geometry.audio
    video = torch.zeros(1, 3, 1, 2) if video is None else video
    tokens = [
        Tokens(torch.zeros(1, n, 1), positions, torch.zeros(1, n, dtype=torch.bool))
        for n, positions in ((video.shape[2], video), (n_target, grid.positions(n_target)))
    ]
    text = TextContext(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    reference = torch.zeros(1, n_reference, 1) if n_reference else None
    return InContext(positions=precision).assemble(tokens[0], tokens[1], text, reference, grid)


def _reference(n_tokens: int, precision: Precision) -> Tensor:
    return _sequence(n_tokens, 1, precision).audio.positions[:, :, :n_tokens]


def _target(n_tokens: int, precision: Precision) -> Tensor:
    return _sequence(1, n_tokens, precision).audio.positions[:, :, 1:]


def _video(shape: str, fps: float, precision: Precision) -> Tensor:
    frames, rows, columns = map(int, shape.split("x"))
    return _sequence(0, 1, precision, VideoGrid(fps).positions(frames, rows, columns)).video.positions


_BUILDERS: list[tuple[str, Callable[[re.Match[str]], Tensor]]] = [
    (r"ref\.(\d+)\.(fp32|bf16)", lambda found: _reference(int(found[1]), _PRECISIONS[found[2]])),
    (r"target\.(\d+)\.(fp32|bf16)", lambda found: _target(int(found[1]), _PRECISIONS[found[2]])),
    (
        r"inference_cat\.ref(\d+)\.target(\d+)",
        lambda found: _sequence(int(found[1]), int(found[2]), "mixed").audio.positions,
    ),
    (
        r"video\.(\d+x\d+x\d+)@(\d+(?:\.\d+)?)\.(fp32|bf16)",
        lambda found: _video(found[1], float(found[2]), _PRECISIONS[found[3]]),
    ),
]


def _check_info(findings: Findings, key: str, facts: Any) -> None:
    """Compare what `info` says about positions: ends of the reference, and how many rotary phases are distinct."""
    case = findings.case
    found = re.fullmatch(r"(inference_cat|video(\d+x\d+x\d+)|\d+)\.(fp32|bf16|\d+)", key)
    if found is None:
        findings.remark(f"info.{key} is not compared")
        return
    if found[2]:
        ours = _video(found[2], _frame_rate(findings, found[2]), _PRECISIONS[found[3]])
        findings.equal(f"info.{key}", [_distinct(ours, axis) for axis in range(3)], case.items(f"info.{key}", int))
        return
    if found[1] == "inference_cat":
        n_reference, n_target = int(found[3]), _target_length(findings, int(found[3]))
        precision: Precision = "mixed"
    else:
        n_reference = n_target = int(found[1])
        precision = _PRECISIONS[found[3]]
    placed = _sequence(n_reference, n_target, precision).audio.positions
    reference, target = placed[:, :, :n_reference], placed[:, :, n_reference:]
    values: dict[str, object] = {
        "ref_first": reference[0, 0, 0].tolist(),
        "ref_last": reference[0, 0, -1].tolist(),
        "distinct_ref_phases": _distinct(reference),
        "distinct_target_phases": _distinct(target),
        "distinct_target": _distinct(target),
        "overlap_ref_target_phases": len(_phases(reference) & _phases(target)),
        "dtype": str(placed.dtype),
    }
    for fact in case.mapping(f"info.{key}"):
        if fact in values:
            findings.equal(f"info.{key}.{fact}", values[fact], facts[fact])
        else:
            findings.remark(f"info.{key}.{fact} is not compared")


def _frame_rate(findings: Findings, shape: str) -> float:
    """Return the frame rate of the stored video positions of a shape; without one, that of the released models."""
    names = findings.case.names(f"video.{shape}@")
    return float(names[0].partition("@")[2].rpartition(".")[0]) if names else 25.0


def _target_length(findings: Findings, n_reference: int) -> int:
    """Return the number of target tokens of the stored concatenation with that many reference tokens."""
    prefix = f"inference_cat.ref{n_reference}.target"
    names = findings.case.names(prefix)
    if not names:
        raise findings.case.wrong(f"info.inference_cat.{n_reference}", f"belongs to no tensor {prefix}<m>")
    return int(names[0].removeprefix(prefix))


def _phases(positions: Tensor, axis: int = 0) -> set[float]:
    """Return the rotary phases of positions, in the precision that the positions have (spec section 2.2)."""
    middle = (positions[:, axis, :, 0] + positions[:, axis, :, 1]) / 2
    return set((middle / _LARGEST[axis] * 2 - 1).flatten().tolist())


def _distinct(positions: Tensor, axis: int = 0) -> int:
    return len(_phases(positions, axis))
