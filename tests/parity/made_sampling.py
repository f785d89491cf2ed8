"""Sampling cases by another path: guidance on clean estimates, Euler and res2s as the specification writes them."""

from math import exp, log, sqrt
from pathlib import Path

import torch
from torch import Tensor

from tests.parity.stock import Stock, write_case

FPS = 24.0
GRID, PIXELS, N_FRAMES = (2, 3, 1), (96, 32), 9
N_REFERENCE, N_TARGET, N_TEXT = 6, 9, 5


class Clip:
    """Prompt, conditions and model of a run."""

    def __init__(self, stock: Stock) -> None:
        self.stock = stock
        self.text = {sign: stock.context(1, N_TEXT) for sign in ("pos", "neg")}
        self.first_frame = stock.normal(1, 128, 1, *GRID[1:])
        self.reference = stock.normal(1, 8, N_REFERENCE, 16)

    def tensors(self) -> dict[str, Tensor]:
        """Return the inputs under their golden names."""
        context = {f"in.{m}_context_{sign}": x for sign, pair in self.text.items() for m, x in pair.items()}
        return context | {"in.first_frame_latent": self.first_frame, "in.reference_audio_latent": self.reference}

    def state(
        self, video: Tensor, audio: Tensor, *, image: bool = True, voice: bool = True, grid: tuple = GRID
    ) -> dict:
        """Return latents with the conditions put in, masks of what is noisy, and positions."""
        n_reference = N_REFERENCE if voice else 0
        noisy = {name: torch.ones(1, x.shape[1], 1) for name, x in (("video", video), ("audio", audio))}
        video, audio = video.clone(), audio.clone()
        if image:
            cut = grid[1] * grid[2]
            video[:, :cut], noisy["video"][:, :cut] = self.first_frame.flatten(2).mT, 0
        if voice:
            audio[:, :n_reference] = self.reference.transpose(1, 2).flatten(2)
            noisy["audio"][:, :n_reference] = 0
        coords = self.stock.positions(1, grid, FPS, audio.shape[1] - n_reference, n_reference)
        return {"x": (video, audio), "noisy": noisy, "coords": coords, "cut": n_reference}

    def estimate(self, state: dict, sigma: float, sign: str = "pos", voice: bool = True, **options) -> list[Tensor]:
        """Return the clean estimates of one pass (spec section 4.3)."""
        cut = 0 if voice else state["cut"]
        x = state["x"][0], state["x"][1][:, cut:]
        steps = [state["noisy"]["video"][..., 0] * sigma, state["noisy"]["audio"][:, cut:, 0] * sigma]
        velocities = self.stock(
            {
                "video": x[0].float(), "audio": x[1].float(), "video_timesteps": steps[0], "audio_timesteps": steps[1],
                "video_context": self.text[sign]["video"], "audio_context": self.text[sign]["audio"],
                "sigma": torch.tensor([sigma]), "video_coords": state["coords"][0],
                "audio_coords": state["coords"][1][:, :, cut:],
            },
            **options,
        )  # fmt: skip
        return [a.float() - v * t[..., None] for a, v, t in zip(x, velocities, steps, strict=True)]

    def guided(self, state: dict, sigma: float, scales: dict, star: bool = False) -> list[Tensor]:
        """Return guided clean estimates with the conditions put back (spec section 4.4; CFG-star in 4.6)."""
        base = self.estimate(state, sigma)
        total = [x.clone() for x in base]
        negative = self.estimate(state, sigma, "neg") if (scales["video_cfg"], scales["audio_cfg"]) != (1, 1) else base
        for index, scale in enumerate((scales["video_cfg"], scales["audio_cfg"])):
            k = (base[index] * negative[index]).sum() / ((negative[index] ** 2).sum() + 1e-8) if star else 1.0
            if scale != 1:
                total[index] += (scale - 1) * (base[index] - k * negative[index])
        if scales["identity"] and state["cut"]:
            plain = self.estimate(state, sigma, voice=False)
            total[1][:, state["cut"] :] += scales["identity"] * (base[1][:, state["cut"] :] - plain[1])
        for weight, options in (
            (scales["stg"], {"perturbed": scales["blocks"], "mode": scales["mode"]}),
            (scales["bimodal"] - 1, {"isolated": True}),
        ):
            if weight:
                weaker = self.estimate(state, sigma, **options)
                total = [t + weight * (b - w) for t, b, w in zip(total, base, weaker, strict=True)]
        return self.blend(state, total)

    def blend(self, state: dict, made: list[Tensor]) -> list[Tensor]:
        """Keep the conditions."""
        return [
            torch.where(noisy > 0, y, x.to(y.dtype))
            for x, y, noisy in zip(state["x"], made, state["noisy"].values(), strict=True)
        ]

    def euler(self, state: dict, sigmas: Tensor, scales: dict) -> list[tuple[list[Tensor], list[Tensor]]]:
        """Return the clean estimates and the latents of every step."""
        steps = []
        for now, then in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
            x0 = self.guided(state, now, scales)
            state["x"] = [x + (x - e) / now * (then - now) for x, e in zip(state["x"], x0, strict=True)]
            steps.append((x0, state["x"]))
        return steps

    def res2s(self, state: dict, sigmas: Tensor, scales: dict, draws: list[Tensor]) -> list[Tensor]:
        """Return the result of the HQ sampler (spec section 4.6), anchor refined in 100 rounds."""
        levels = [*sigmas[:-1].tolist(), 0.0011]
        drawn = iter(draws)

        def renoise(sample: list, made: list, s: float, then: float) -> list[Tensor]:
            up = then / 2
            r = sqrt(then**2 - up**2)
            a = 1 - then + r
            new = []
            for x, y in zip(sample, made, strict=True):
                eps = (x - y) / (s - then)
                new.append(a * ((x - s * eps) + r / a * eps) + up * next(drawn))
            return self.blend(state, new)

        for s, then in zip(levels[:-1], levels[1:], strict=True):
            h, middle = log(s / then), sqrt(s * then)
            phi1, phi2 = (lambda z: (exp(z) - 1) / z), (lambda z: (exp(z) - 1 - z) / z**2)
            a21, b2 = 0.5 * phi1(-h / 2), phi2(-h) / 0.5
            b1 = phi1(-h) - b2
            anchor = [x.double() for x in state["x"]]
            one = [x.double() for x in self.guided(state, s, scales, star=True)]
            mid = renoise(anchor, [x + h * a21 * (e - x) for x, e in zip(anchor, one, strict=True)], s, middle)
            if h < 0.5 and s > 0.03:
                for _ in range(100):
                    anchor = [m - h * a21 * (e - x) for m, e, x in zip(mid, one, anchor, strict=True)]
            at_middle = state | {"x": [m.float() for m in mid]}
            two = [x.double() for x in self.guided(at_middle, middle, scales, star=True)]
            end = [x + h * (b1 * (e - x) + b2 * (f - x)) for x, e, f in zip(anchor, one, two, strict=True)]
            state["x"] = [x.float() for x in renoise(anchor, end, s, then)]
        return self.guided(state, levels[-1], scales, star=True)


@torch.no_grad()
def make_sampler(folder: Path, letter: str, stock: Stock, *, mode: str) -> None:
    """Write a run of three steps with several perturbed blocks, and two variants; B has no first frame."""
    clip, scales = Clip(stock), {"video_cfg": 2.0, "audio_cfg": 4.0, "identity": 1.5, "stg": 0.5, "bimodal": 2.0}
    noise = stock.normal(1, 6, 128), stock.normal(1, N_REFERENCE + N_TARGET, 128)
    alone, sigmas = stock.normal(1, N_TARGET, 128), torch.tensor([1.0, 0.7, 0.2, 0.0])
    own = scales | {"blocks": (0, 2), "mode": mode}
    start = clip.state(*noise)
    tensors = clip.tensors() | {"in.noise_video": noise[0], "in.noise_audio": noise[1], "in.noise_audio_noref": alone}
    tensors |= {"in.sigmas": sigmas, "in.initial_video": start["x"][0], "in.initial_audio": start["x"][1]}
    steps = clip.euler(start, sigmas, own)
    for index, (x0, x) in enumerate(steps):
        for modality, part in (("video", 0), ("audio", 1)):
            tensors |= {f"step{index}.{modality}_x0": x0[part], f"step{index}.{modality}_next": x[part]}
    tensors |= {"out.video_latent": steps[-1][1][0], "out.audio_latent": steps[-1][1][1][:, N_REFERENCE:]}
    runs = {
        "bimodal_flag_off": (clip.state(*noise), own | {"bimodal": 0.0}, {"_av_bimodal_cfg": False}),
        "bare": (
            clip.state(noise[0], alone, image=False, voice=False),
            own | {"video_cfg": 1.0, "audio_cfg": 1.0, "stg": 0.0},
            {"v_scale": 1.0, "a_scale": 1.0, "_stg_scale": 0.0, "image": False, "ref": False},
        ),
    }
    for name, (state, used, _) in runs.items():
        video, audio = clip.euler(state, sigmas, used)[-1][1]
        tensors |= {f"variant.{name}.video_latent": video, f"variant.{name}.audio_latent": audio[:, -N_TARGET:]}
    fields = base_fields(letter, stock, "sampler") | {
        "steps": 3, "seed": 7, "target_audio_tokens": N_TARGET, "video_tokens": 6, "scales": scales,
        "stg_blocks": [0, 2], "stg_mode": mode, "variants": {name: change for name, (_, _, change) in runs.items()},
    }  # fmt: skip
    write_case(folder, f"{letter}_sampler", fields, tensors)


def base_fields(letter: str, stock: Stock, kind: str) -> dict:
    """Return the fields that both kinds share."""
    return {
        "kind": kind, "layout": stock.layout, "tolerance": 1e-4, "weights": f"{letter}_weights.safetensors",
        "diffusers_config": stock.config, "height": PIXELS[0], "width": PIXELS[1], "num_frames": N_FRAMES, "fps": FPS,
        "ref_tokens": N_REFERENCE,
    }  # fmt: skip


@torch.no_grad()
def make_high_quality(folder: Path, letter: str, stock: Stock) -> None:
    """Write a first stage of three steps of the HQ script, one of them short, and a second stage of another size."""
    clip, scales = Clip(stock), {"video_cfg": 2.5, "audio_cfg": 5.0, "identity": 2.0, "stg": 0.0, "bimodal": 2.0}
    start = clip.state(stock.normal(1, 6, 128), stock.normal(1, N_REFERENCE + N_TARGET, 128))
    sigmas = torch.tensor([1.0, 0.7, 0.3, 0.0])
    draws = [stock.normal(*start["x"][index % 2].shape).double() for index in range(12)]
    tensors = clip.tensors() | {"hq.sigmas": sigmas}
    tensors |= {"hq.initial_video": start["x"][0], "hq.initial_audio": start["x"][1]}
    tensors |= {f"hq.sde_noise.{index:02d}": noise for index, noise in enumerate(draws)}
    video, audio = clip.res2s(start, sigmas, scales | {"blocks": (), "mode": "stg_av"}, draws)
    tensors |= {"hq.final_video": video, "hq.final_audio": audio}
    tensors |= make_second_stage(clip, stock)
    fields = base_fields(letter, stock, "sampler_hq_and_stage2") | {
        "scales": scales, "n_sde": 12, "noise_seeds": {"step": 3, "substep": 4},
    }  # fmt: skip
    write_case(folder, f"{letter}_high_quality", fields, tensors)


def make_second_stage(clip: Clip, stock: Stock) -> dict[str, Tensor]:
    """Return the tensors of a refining stage at twice the size (spec section 4.5)."""
    grid, sigmas = (2, 6, 2), torch.tensor([0.8, 0.5, 0.0])
    upscaled, sound = stock.normal(1, 128, *grid), stock.normal(1, 8, N_TARGET, 16)
    clip.first_frame, noise = stock.normal(1, 128, 1, *grid[1:]), stock.normal(1, 24, 128)
    noised = noise * sigmas[0] + upscaled.flatten(2).mT * (1 - sigmas[0])
    state = clip.state(noised, sound.transpose(1, 2).flatten(2), voice=False, grid=grid)
    state["noisy"]["audio"][:] = 0
    made = {"s2.initial_video": state["x"][0], "s2.initial_audio": state["x"][1], "s2.sigmas": sigmas}
    off = {"video_cfg": 1, "audio_cfg": 1, "identity": 0, "stg": 0, "bimodal": 1, "blocks": (), "mode": "stg_av"}
    video, audio = clip.euler(state, sigmas, off)[-1][1]
    return made | {
        "s2.upscaled_video": upscaled, "s2.stage1_audio": sound, "s2.first_frame_latent": clip.first_frame,
        "s2.noise_video": noise, "s2.final_video": video, "s2.final_audio": audio,
    }  # fmt: skip
