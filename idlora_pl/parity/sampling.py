"""Checks of sampling: noise order, start, every step, the result, and variants of the guidance.

And of the two-stage HQ script: its first stage (res2s, projected guidance), and the refining stage.
Letters: B clips, N tokens, C channels, S steps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from idlora_pl.generation.sampling import REFINING, Stage
from idlora_pl.generation.stages import refined_start, sample_stage
from idlora_pl.ltx2.schedule import STAGE_2_SIGMAS, sigmas
from idlora_pl.ltx2.schedule import sigmas as schedule
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.guidance import guided
from idlora_pl.method.noise import Draws, sde_noise
from idlora_pl.method.tokens import AVSequence, audio_tokens, patchify_audio, patchify_video, video_tokens
from idlora_pl.parity.cases import Case
from idlora_pl.parity.clips import (
    SCRIPT,
    Scales,
    context_of,
    first_frame_of,
    grid_of,
    levels_of,
    n_reference_of,
    read_scales,
    start_of,
    varied,
)
from idlora_pl.parity.findings import Findings
from idlora_pl.parity.models import channels_of, model_of

_STEP = re.compile(r"step(\d+)\.(video|audio)_(x0|next)")


@torch.no_grad()
def check_sampler(findings: Findings) -> None:
    """Compare a guided Euler run of the one-stage script with ours, and runs with other guidance or conditions."""
    case = findings.case
    model = model_of(case, frame_rate_fps=case.positive("fps"))
    scales, levels = read_scales(case, model), levels_of(case, "in.sigmas", case.whole("steps", least=1))
    _check_sizes(findings, model)
    start = _start(findings, model, scales)
    _compare_start(findings, start)
    stage = _stage(scales, levels)
    states = _run(case, model, start, stage, levels)
    _compare_steps(findings, model, stage, levels, states)
    _compare_result(findings, "out", states[-1])
    stored = {name.split(".")[1] for name in case.names("variant.")}
    described = set(case.mapping("variants")) if case.has_field("variants") else set()
    for name in sorted(stored | described):
        if name not in stored:
            findings.remark(f"variant {name} is not compared; the case stores no result of it")
            continue
        chosen = varied(case, name, scales, model)
        begun = _start(findings, model, chosen)
        _compare_result(findings, f"variant.{name}", _run(case, model, begun, _stage(chosen, levels), levels)[-1])
    if len(levels) > 2:
        findings.given("in.sigmas", schedule(len(levels) - 1), noise=1e-6)


def _check_sizes(findings: Findings, model: LTX2) -> None:
    """Compare the numbers of tokens with those that our grids make of frames, pixels and seconds."""
    case = findings.case
    n_audio = model.geometry.audio.n_tokens(case.whole("num_frames") / case.positive("fps"))
    findings.number("video_tokens", math.prod(grid_of(case, model)), case.whole("video_tokens"))
    findings.number("target_audio_tokens", n_audio, case.whole("target_audio_tokens"))


def _start(findings: Findings, model: LTX2, scales: Scales) -> AVSequence:
    """Return the start of a run; without the voice, the case has other noise."""
    case, (video_width, audio_width) = findings.case, channels_of(model)
    n_reference, n_target = n_reference_of(case), case.whole("target_audio_tokens", least=1)
    video = case.tensor("in.noise_video", None, case.whole("video_tokens"), video_width)
    if n_reference and not case.has("in.reference_audio_latent"):
        raise case.wrong_tensor("in.reference_audio_latent", f"is missing; ref_tokens is {n_reference}")
    if scales.reference or not n_reference:
        audio = case.tensor("in.noise_audio", len(video), n_reference + n_target, audio_width)[:, n_reference:]
    else:
        audio = case.tensor("in.noise_audio_noref", len(video), n_target, audio_width)
    start = start_of(case, model, (video, audio), image=scales.image, reference=scales.reference)
    if scales.reference and start.audio.n_reference != n_reference:
        found = start.audio.n_reference
        raise case.wrong("ref_tokens", f"is {n_reference}; in.reference_audio_latent has {found} tokens")
    return start


def _stage(scales: Scales, levels: Tensor) -> Stage:
    return scales.stage(sigmas=tuple(levels.tolist()))


def _compare_start(findings: Findings, start: AVSequence) -> None:
    case = findings.case
    for name, tokens in (("video", start.video), ("audio", start.audio)):
        if case.has(f"in.initial_{name}"):
            findings.tensor(f"in.initial_{name}", tokens.latents)
    if not isinstance(case.fields.get("seed"), int) or start.video.latents.shape[2] != start.audio.latents.shape[2]:
        return
    channels = start.video.latents.shape[2]
    # with the rows of the reference, as the golden runs kept them
    shapes = (start.video.n_tokens, channels), (start.audio.n_tokens, channels)
    for name, ours in zip(("video", "audio"), Draws([case.fields["seed"]], "released").stage(*shapes), strict=True):
        findings.given(f"in.noise_{name}", ours, noise=1e-6)


def _run(
    case: Case, model: LTX2, start: AVSequence, stage: Stage, levels: Tensor, draw: Iterator[Tensor] | None = None
) -> list[AVSequence]:
    """Run a stage with the fresh noise of `draw`; return its start and the sequence after each step."""
    states = [start]
    sample_stage(
        model,
        start,
        stage,
        stg_block=model.preset.stg_block,
        negative=context_of(case, "neg") if stage.needs_negative else None,
        sigmas=levels,
        draw=draw,
        on_step=lambda _, av: states.append(av),
    )
    return states


def _compare_steps(findings: Findings, model: LTX2, stage: Stage, levels: Tensor, states: list[AVSequence]) -> None:
    """Compare, for every step, the guided clean estimate and the sequence after it."""
    case = findings.case
    negative = context_of(case, "neg") if stage.needs_negative else None
    terms = stage.guidance(model.preset.stg_block)
    for step, (now, then) in enumerate(zip(states, states[1:], strict=False)):
        sigma = levels[step].expand(len(now.video.latents))
        estimates = None
        for modality in ("video", "audio"):
            if case.has(f"step{step}.{modality}_x0"):
                estimates = estimates or _estimates(guided(model, now, sigma, terms, negative), now, levels[step])
                findings.tensor(f"step{step}.{modality}_x0", estimates[modality])
            if case.has(f"step{step}.{modality}_next"):
                findings.tensor(f"step{step}.{modality}_next", getattr(then, modality).latents)
    for name in case.names("step"):
        found = _STEP.fullmatch(name)
        if found is None or int(found[1]) >= len(states) - 1:
            raise case.wrong_tensor(name, f"belongs to none of the {len(states) - 1} steps")


def _estimates(velocities: tuple[Tensor, Tensor], now: AVSequence, level: Tensor) -> dict[str, Tensor]:
    """Return the clean estimates (B, N, C), which are the data itself on clean tokens."""
    video, audio = velocities
    return {
        "video": now.video.moved(video, -float(level)).latents,
        "audio": now.audio.moved(audio, -float(level)).latents,
    }


def _compare_result(findings: Findings, prefix: str, end: AVSequence) -> None:
    findings.tensor(f"{prefix}.video_latent", end.video.latents)
    findings.tensor(f"{prefix}.audio_latent", end.audio.target().latents)


_DRAWS_A_STEP = 4
_RELEASED_SEEDS = {"step": -1, "substep": 9999}


@torch.no_grad()
def check_high_quality(findings: Findings) -> None:
    """Compare the stages that the case holds: hq.* is the first, s2.* the second."""
    case = findings.case
    model = model_of(case, frame_rate_fps=case.positive("fps"))
    parts = {"hq.": _compare_first, "s2.": _compare_second}
    if not any(case.names(prefix) for prefix in parts):
        raise case.wrong_tensor("hq.sigmas", "is missing, as is s2.sigmas")
    for prefix, compare in parts.items():
        if case.names(prefix):
            compare(findings, model)


def _compare_first(findings: Findings, model: LTX2) -> None:
    """Compare the start and the result of the first stage, whose fresh noise the case stores."""
    case, (video_width, audio_width) = findings.case, channels_of(model)
    levels = levels_of(case, "hq.sigmas")
    n_reference, n_video = n_reference_of(case), math.prod(grid_of(case, model))
    video = case.tensor("hq.initial_video", None, n_video, video_width)
    n_audio = n_reference + model.geometry.audio.n_tokens(case.whole("num_frames") / case.positive("fps"))
    audio = case.tensor("hq.initial_audio", len(video), n_audio, audio_width)
    start = start_of(case, model, (video, audio[:, n_reference:]))
    if start.audio.n_reference != n_reference:
        found = start.audio.n_reference
        raise case.wrong("ref_tokens", f"is {n_reference}; in.reference_audio_latent has {found} tokens")
    _compare_latents(findings, "hq.initial", start)
    stage = read_scales(case, model).stage(
        sampler="res2s", projected_text=True, shift_tokens=None, sigmas=tuple(levels.tolist())
    )
    draw = iter(_fresh_noise(findings, start, len(levels) - 1))
    _compare_latents(findings, "hq.final", _run(case, model, start, stage, levels, draw)[-1])
    if len(levels) > 2:
        findings.given("hq.sigmas", sigmas(len(levels) - 1, n_video), noise=1e-6)


def _fresh_noise(findings: Findings, start: AVSequence, steps: int) -> list[Tensor]:
    """Return the stored noise in the order of its numbers; four tensors a step, video before audio."""
    case, needed = findings.case, _DRAWS_A_STEP * steps
    if case.has_field("n_sde") and case.whole("n_sde") != needed:
        raise case.wrong("n_sde", f"is {case.whole('n_sde')}; {steps} steps take {needed}")
    names = sorted(case.names("hq.sde_noise."), key=lambda name: int(name.rpartition(".")[2]))
    if len(names) != needed:
        raise case.wrong_tensor("hq.sde_noise", f"has {len(names)} tensors; {steps} steps take {needed}")
    shapes = [tuple(start.video.latents.shape), tuple(start.audio.latents.shape)]
    noise = [case.tensor(name, *shapes[index % 2]) for index, name in enumerate(names)]
    if case.has_field("noise_seeds") and dict(case.mapping("noise_seeds")) == _RELEASED_SEEDS:
        ours: Iterator[Tensor] = sde_noise(start, [0] * len(start.video.latents), "released")
        for name, drawn in zip(names, islice(ours, needed), strict=True):
            findings.given(name, drawn, noise=1e-6)
    return noise


def _compare_second(findings: Findings, model: LTX2) -> None:
    """Compare the start and the result of the refining stage, whose sound is frozen."""
    case = findings.case
    levels = levels_of(case, "s2.sigmas")
    video = case.tensor("s2.upscaled_video", None, channels_of(model)[0], None, None, None)
    start = refined_start(
        _first_stage_result(findings, model, video),
        video,
        noise=case.tensor("s2.noise_video", len(video), video[0, 0].numel(), video.shape[1]),
        sigma=float(levels[0]),
        grid=model.geometry.video,
        first_frame=first_frame_of(case, "s2.first_frame_latent", *video.shape[3:]),
    )
    _compare_latents(findings, "s2.initial", start)
    stage = replace(REFINING, sigmas=tuple(levels.tolist()))
    _compare_latents(findings, "s2.final", sample_stage(model, start, stage, stg_block=model.preset.stg_block))
    findings.given("s2.sigmas", torch.tensor(STAGE_2_SIGMAS))


def _first_stage_result(findings: Findings, model: LTX2, video: Tensor) -> AVSequence:
    """Return what the stage before made: the enlarged video, the stored sound, the prompt."""
    stored = findings.case.tensor("s2.stage1_audio", len(video), None, None, None)
    data, done = (patchify_video(video), patchify_audio(stored)), torch.zeros(len(video))
    shape = (video.shape[2], video.shape[3], video.shape[4])
    noise = (torch.zeros_like(data[0]), torch.zeros_like(data[1]))
    return SCRIPT.assemble(
        video_tokens(data[0], noise[0], done, shape=shape, first_frame=done.bool(), grid=model.geometry.video),
        audio_tokens(data[1], noise[1], done, grid=model.geometry.audio),
        context_of(findings.case, "pos"),
        None,
        model.geometry.audio,
    )


def _compare_latents(findings: Findings, prefix: str, av: AVSequence) -> None:
    findings.tensor(f"{prefix}_video", av.video.latents)
    findings.tensor(f"{prefix}_audio", av.audio.latents)
