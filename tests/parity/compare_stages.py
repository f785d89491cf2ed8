"""Run our stages on the golden trajectories and print the largest differences as JSON.

A program of its own, because MKL reads MKL_CBWR (see test_parity.py) only once per process.
Run: MKL_CBWR=COMPATIBLE python tests/parity/compare_stages.py
"""

import json
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from idlora_pl.draws import Draws
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.clip_tokens import audio_tokens, video_tokens
from idlora_pl.method.flow import x0_from_velocity
from idlora_pl.method.guidance import guided
from idlora_pl.method.in_context import InContext
from idlora_pl.method.tokens import AVSequence, TextContext, patchify_audio, patchify_video
from idlora_pl.sampling import Sampling, Stage
from idlora_pl.stage_lists import REFINING, with_stages
from idlora_pl.stages import refined_start, sample_stage, stage_sigmas
from tests.parity.compare import LAYOUTS, Golden, difference

GRID = (3, 2, 2)
RELEASED = InContext(video_sees_reference=True, reference_sees_text=True)
STAGE = Stage(steps=4)
OFF = replace(STAGE, text_scale=(1.0, 1.0), identity_scale=0.0, perturbed_scale=0.0, modality_scale=1.0)
VARIANTS = {
    "out": STAGE,
    "variant.cfg_only": replace(OFF, text_scale=(3.0, 7.0)),
    "variant.no_guidance": OFF,
    "variant.identity_only": replace(OFF, identity_scale=3.0),
    "variant.stg_only": replace(OFF, perturbed_scale=1.0),
    "variant.bimodal_only": replace(OFF, modality_scale=3.0),
    "variant.bimodal_flag_off": replace(STAGE, modality_scale=0.0),  # the reference's bug, spec section 6.17
    "variant.no_image": STAGE,
    "variant.no_reference": STAGE,
}


def text(packed: Mapping[str, Tensor], sign: str) -> TextContext:
    """The prompt ("pos") or the negative prompt ("neg")."""
    return TextContext(packed[f"in.video_context_{sign}"], packed[f"in.audio_context_{sign}"])


def first_start(model: LTX2, packed: Mapping[str, Tensor], *, image: bool = True, voice: bool = True) -> AVSequence:
    """What the first stage starts from: seed 42 in the released order, a first frame and a voice."""
    reference = patchify_audio(packed["in.reference_audio_latent"]) if voice else None
    noise, sound = Draws([42], "released").stage((12, 128), (17, 128), n_reference=5 if voice else 0)
    x0, grids = torch.zeros_like(noise), model.geometry
    x0[:, :4] = patchify_video(packed["in.first_frame_latent"])
    video = video_tokens(x0, noise, torch.ones(1), shape=GRID, first_frame=torch.tensor([image]), grid=grids.video)
    audio = audio_tokens(torch.zeros_like(sound), sound, torch.ones(1), grid=grids.audio)
    return RELEASED.assemble(video, audio, text(packed, "pos"), reference, grids.audio)


def first_stage_errors(golden: Golden) -> dict[str, float]:
    """The start, every step, and the end of every variant."""
    model, packed = golden.model(), golden.tensors("sampler_4step")
    errors = {}
    for name, stage in VARIANTS.items():
        start = first_start(model, packed, image=name != "variant.no_image", voice=name != "variant.no_reference")
        states: list[AVSequence] = []
        # the model multiplies noise levels by 1000 before a cosine: the 1.8e-7 by which diffusers' schedule differs
        # from the authors' grow to 1e-3, so the run takes the authors' levels and the schedule is compared alone
        levels, negative = packed["in.sigmas"], text(packed, "neg")
        options = {"stg_block": 1, "negative": negative, "sigmas": levels}
        end = sample_stage(model, start, stage, **options, on_step=lambda _, av, states=states: states.append(av))
        errors[f"{name}.video"] = difference(end.video.latents, packed[f"{name}.video_latent"])
        errors[f"{name}.audio"] = difference(end.audio.target().latents, packed[f"{name}.audio_latent"])
        if name == "out":
            errors |= _both("start", start, packed["in.initial_video"], packed["in.initial_audio"])
            errors |= _step_errors(model, packed, [start, *states])
    return errors


def _step_errors(model: LTX2, packed: Mapping[str, Tensor], states: list[AVSequence]) -> dict[str, float]:
    """The clean estimate that each step goes towards, from the state before it, and the state after it."""
    levels = packed["in.sigmas"]
    errors = {"sigmas": difference(stage_sigmas(STAGE, 12), levels)}
    for step, (av, moved) in enumerate(zip(states, states[1:], strict=False)):
        errors |= _both(f"step{step}.next", moved, packed[f"step{step}.video_next"], packed[f"step{step}.audio_next"])
        sigma = levels[step].expand(1)
        video, audio = guided(model, av, sigma, STAGE.guidance(1), text(packed, "neg"))
        target = av.audio.target()
        for name, tokens, velocity, expected in (
            ("video", av.video, video, packed[f"step{step}.video_x0"]),
            ("audio", target, audio, packed[f"step{step}.audio_x0"][:, av.audio.n_reference :]),
        ):
            x0 = x0_from_velocity(tokens.latents, velocity, tokens.timesteps(sigma))
            errors[f"step{step}.x0.{name}"] = difference(x0, expected)
    return errors


def second_stage_errors(golden: Golden) -> dict[str, float]:
    """The refining stage: its start from a given upsampled video, and its end."""
    model, packed = golden.model(), golden.tensors("hq_res2s_and_stage2")
    start = first_start(model, packed)
    sound = patchify_audio(packed["s2.stage1_audio"])
    whole = torch.cat([start.audio.latents[:, : start.audio.n_reference], sound], dim=1)
    done = replace(start, audio=start.audio.with_latents(whole))
    levels = stage_sigmas(REFINING, 12)
    refined = refined_start(
        done,
        packed["s2.upscaled_video"],
        noise=packed["s2.noise_video"],
        sigma=float(levels[0]),
        grid=model.geometry.video,
        first_frame=patchify_video(packed["s2.first_frame_latent"]),
    )
    end = sample_stage(model, refined, REFINING, stg_block=1)
    return {
        "s2.sigmas": difference(levels, packed["s2.sigmas"]),
        **_both("s2.start", refined, packed["s2.initial_video"], packed["s2.initial_audio"]),
        **_both("s2.end", end, packed["s2.final_video"], packed["s2.final_audio"]),
    }


def hq_errors(golden: Golden) -> dict[str, float]:
    """The first stage of the HQ script with the noise that it drew, and with ours in its order."""
    model, packed = golden.model(), golden.tensors("hq_res2s_and_stage2")
    start, stage = first_start(model, packed), with_stages("two_stage_hq", Sampling(n_frames=17, height=64, width=64))
    stored = (packed[f"hq.sde_noise.{turn:02d}"] for turn in range(16))
    errors = _both("hq.start", start, packed["hq.initial_video"], packed["hq.initial_audio"])
    errors["hq.sigmas"] = difference(stage_sigmas(replace(stage, steps=4), 12), packed["hq.sigmas"])
    for name, draw in {"stored": stored, "drawn": Draws([42], "released").fresh(start)}.items():
        options = {"stg_block": 1, "negative": text(packed, "neg"), "sigmas": packed["hq.sigmas"], "draw": draw}
        end = sample_stage(model, start, stage, **options)
        errors |= _both(f"hq.{name}", end, packed["hq.final_video"], packed["hq.final_audio"])
    return errors


def _both(name: str, av: AVSequence, video: Tensor, audio: Tensor) -> dict[str, float]:
    return {
        f"{name}.video": difference(av.video.latents, video),
        f"{name}.audio": difference(av.audio.latents, audio),
    }


def main() -> None:
    """Print every error, by layout and check."""
    errors = {}
    with torch.no_grad():
        for name in LAYOUTS:
            found = first_stage_errors(Golden(name))
            if name == "m23":
                found |= second_stage_errors(Golden(name)) | hq_errors(Golden(name))
            errors |= {f"{name}.{key}": value for key, value in found.items()}
    print(json.dumps(errors, indent=1))


if __name__ == "__main__":
    main()
