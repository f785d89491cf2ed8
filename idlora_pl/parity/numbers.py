"""Checks that need no whole model: positions, sigmas, timestep_sampler, the log-mel front end, the text path.

Positions are the grids of both modalities, with the reference at negative times; the text path is the normalisation of
hidden states, projections and connectors.
Letters: B batch or prompts, N tokens, F H W the video latent grid, L text tokens, D width of the language model, K its
hidden states.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from idlora_pl.ltx2.audio_codec import LogMel
from idlora_pl.ltx2.presets import PRESETS, connector_preset_named
from idlora_pl.ltx2.schedule import DISTILLED_SIGMAS, STAGE_2_SIGMAS, sigmas
from idlora_pl.ltx2.text import (
    LTX2TextConnectors,
    connect_features,
    normalise_layers,
    normalise_tokens,
    project_features,
)
from idlora_pl.method import flow
from idlora_pl.method.in_context import InContext
from idlora_pl.method.positions import Precision, VideoGrid
from idlora_pl.method.tokens import AVSequence, TextContext, TextFeatures, Tokens
from idlora_pl.parity.cases import LAYOUTS, Case
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


_HALVES = {11: 11025, 22: 22050, 44: 44100, 88: 88200}
"""Sample rates that are no multiple of 1000 Hz, by the number of kHz in a tensor's name."""


def check_log_mel(findings: Findings) -> None:
    """Compare the log-mel of every waveform; waveforms at other rates are resampled first."""
    case, mel = findings.case, LogMel()
    names = [name for name in case.names("out.") if name.startswith("out.mel")]
    if not names:
        raise case.wrong_tensor("out.mel16k", "is missing, as is every other output")
    for name in names:
        wave, rate = _source(case, name)
        findings.tensor(name, mel(case.tensor(wave, None, None, None), rate))
    transform = mel.transform(torch.device("cpu"))
    for name, ours in (("filterbank", transform.mel_scale.fb), ("window", transform.spectrogram.window)):
        if case.has(name):
            findings.tensor(name, ours)


def _source(case: Case, name: str) -> tuple[str, int]:
    """Return the waveform that an output was made of, and its sample rate in Hz."""
    found = re.fullmatch(r"out\.mel(?:_from)?(\d+)k", name)
    if found is None:
        raise case.wrong_tensor(name, "is an unknown name; names are out.mel<kHz>k and out.mel_from<kHz>k")
    return f"in.wave{found[1]}k", _HALVES.get(int(found[1]), int(found[1]) * 1000)


_STREAMS = ("video", "audio")
_PROJECTION = "feat.w.{}_aggregate_embed.{}"


def check_connectors(findings: Findings) -> None:
    """Compare normalised states, projected features (2.3) and what both connectors make of features."""
    case = findings.case
    per_modality = case.layout == LAYOUTS[1]
    states = case.tensor("feat.hidden_states", None, None, None, None)
    batch, length, width, n_states = states.shape
    connectors = _connectors(case, _settings(case, width, n_states))
    mask = _mask(case, batch, length, case.whole("connector.registers"))
    with torch.no_grad():
        normalise = normalise_tokens if per_modality else normalise_layers
        if case.has("feat.normed"):
            findings.tensor("feat.normed", normalise(states, mask))
        features = project_features(connectors, states, mask)
        for stream, ours in zip(_STREAMS, (features.video, features.audio), strict=True):
            if case.has(f"feat.{stream}"):
                case.tensor(_PROJECTION.format(stream, "weight"))  # without it ours would be random
                findings.tensor(f"feat.{stream}", ours)
        context = connect_features(connectors, _given_features(case, connectors, mask))
    findings.tensor("out.video_context", context.video)
    findings.tensor("out.audio_context", context.audio)
    if case.has("out.mask"):
        seen = torch.ones_like(mask) if context.mask is None else context.mask
        findings.tensor("out.mask", seen.to(case.tensor("out.mask").dtype))


def _settings(case: Case, width: int, n_states: int) -> dict[str, Any]:
    """Return the arguments of the class: the conventions of the layout, and the sizes of the case."""
    own = {
        **connector_preset_named(case.layout),
        "caption_channels": width,
        "text_proj_in_factor": n_states,
        "connector_rope_base_seq_len": case.whole("connector.rope_base_seq_len", least=1),
    }
    for stream in _STREAMS:  # a case names heads and their width once if both streams are alike
        place = f"connector.{stream}" if case.has_field(f"connector.{stream}") else "connector"
        heads, head_width = case.whole(f"{place}.heads", least=1), case.whole(f"{place}.head_dim", least=1)
        own |= {
            f"{stream}_connector_num_attention_heads": heads,
            f"{stream}_connector_attention_head_dim": head_width,
            f"{stream}_connector_num_layers": case.whole("connector.layers", least=1),
            f"{stream}_connector_num_learnable_registers": case.whole("connector.registers", least=1),
            f"{stream}_gated_attn": case.flag("connector.gated"),
            f"{stream}_hidden_dim": heads * head_width,
        }
    return own


def _connectors(case: Case, settings: dict[str, Any]) -> LTX2TextConnectors:
    """Build the connectors and load the weights of the case; a projection that it lacks stays random."""
    try:
        connectors = LTX2TextConnectors(**settings)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise case.wrong("connector", f"is refused by diffusers' LTX2TextConnectors: {error}") from error
    needed = connectors.state_dict()
    weights = {name[2:]: name for name in case.names("w.")}
    for stream in _STREAMS:
        for part in ("weight", "bias"):
            name = _PROJECTION.format(stream, part)
            if case.layout == LAYOUTS[1] and case.has(name):
                weights[f"{stream}_text_proj_in.{part}"] = name
    loaded = {}
    for ours, name in weights.items():
        if ours not in needed:
            raise case.wrong_tensor(name, "is unknown; the connectors of 'connector' have no such weight")
        loaded[ours] = case.tensor(name, *needed[ours].shape)
    for ours in needed.keys() - loaded.keys():
        if "text_proj_in" not in ours:
            raise case.wrong_tensor(f"w.{ours}", "is missing; the connectors of 'connector' need it")
    connectors.load_state_dict(loaded, strict=False)
    return connectors


def _mask(case: Case, batch: int, length: int, registers: int) -> Tensor:
    mask = case.tensor("in.mask", batch, length)
    if not ((mask == 0) | (mask == 1)).all() or (mask.diff(dim=1) < 0).any():
        raise case.wrong_tensor("in.mask", "must hold 0 (padding) on the left and 1 (text) on the right alone")
    if length % registers:
        raise case.wrong("connector.registers", f"is {registers}; it must divide the {length} text tokens")
    return mask.bool()


def _given_features(case: Case, connectors: LTX2TextConnectors, mask: Tensor) -> TextFeatures:
    """Return the features that the case puts into the connectors: one for both streams (19B), or one each."""
    shared = case.has("in.prompt_embeds")
    names = ["in.prompt_embeds"] * 2 if shared else [f"in.{stream}_prompt_embeds" for stream in _STREAMS]
    video, audio = (case.tensor(name, *mask.shape, None) for name in names)
    for stream, features in zip(_STREAMS, (video, audio), strict=True):
        registers = connectors.state_dict()[f"{stream}_connector.learnable_registers"]
        if features.shape[-1] != registers.shape[-1]:
            wanted = (*mask.shape, registers.shape[-1])
            name = names[_STREAMS.index(stream)]
            raise case.wrong_tensor(name, f"has shape {tuple(features.shape)}; it must be {wanted}")
    return TextFeatures(video, audio, mask)
