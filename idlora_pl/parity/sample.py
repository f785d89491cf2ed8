"""Check of one-stage sampling: noise order, start, every step, the result, and variants of the guidance.

Letters: B clips, N tokens, C channels, S steps.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from idlora_pl.generation.sampling import Stage
from idlora_pl.generation.stages import sample_stage
from idlora_pl.ltx2.schedule import sigmas as schedule
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.guidance import guided
from idlora_pl.method.noise import released_noise
from idlora_pl.method.tokens import AVSequence
from idlora_pl.parity.cases import Case
from idlora_pl.parity.clips import Scales, context_of, grid_of, levels_of, n_reference_of, read_scales, start_of, varied
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
    stage, states = _stage(scales, levels), [start]
    states.append(_run(case, model, start, stage, levels, states))
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
        _compare_result(findings, f"variant.{name}", _run(case, model, begun, _stage(chosen, levels), levels, []))
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
    sizes = start.video.n_tokens, start.audio.n_tokens, start.video.latents.shape[2]
    for name, ours in zip(("video", "audio"), released_noise(case.fields["seed"], *sizes), strict=True):
        findings.given(f"in.noise_{name}", ours, noise=1e-6)


def _run(
    case: Case, model: LTX2, start: AVSequence, stage: Stage, levels: Tensor, states: list[AVSequence]
) -> AVSequence:
    """Run a stage; the sequences after its steps but the last go into `states`."""
    seen: list[AVSequence] = []
    end = sample_stage(
        model,
        start,
        stage,
        stg_block=model.preset.stg_block,
        negative=context_of(case, "neg") if stage.needs_negative else None,
        sigmas=levels,
        on_step=lambda _, av: seen.append(av),
    )
    states.extend(seen[:-1])
    return end


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
