"""Run our code on the golden inputs and print the largest differences as JSON.

A program of its own, because MKL reads MKL_CBWR (see test_parity.py) only once per process.
Run: MKL_CBWR=COMPATIBLE python tests/parity/compare.py
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from idlora_pl.data.samples import PairBatch
from idlora_pl.ltx2.lora import load_adapter
from idlora_pl.ltx2.presets import PRESETS
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.guidance import (
    IdentityGuidance,
    ModalityGuidance,
    PerturbedGuidance,
    TextGuidance,
    guided,
)
from idlora_pl.method.in_context import InContext
from idlora_pl.method.perturbation import UNPERTURBED, Perturbation
from idlora_pl.method.res2s import sample_res2s, sde_noise
from idlora_pl.method.sampler import released_noise, sample_euler
from idlora_pl.method.tokens import (
    AVSequence,
    TextContext,
    TextFeatures,
    Tokens,
    patchify_audio,
    patchify_video,
)
from idlora_pl.training.noise import Noise
from idlora_pl.training.objective import flow_losses
from idlora_pl.training.optimizer import AdamW, build_optimizer

GOLDEN = Path(__file__).parent / "golden"
LAYOUTS = {"m19b": "ltx2-19b", "m23": "ltx2.3-22b"}
N_REFERENCE = 5
FIRST_FRAME_TOKENS = 4
TRAINED = InContext("negative", video_sees_reference=False, reference_sees_text=False, hidden_text="uniform")
TRAIN_VARIANTS = {
    "no_masks": replace(TRAINED, video_sees_reference=True, reference_sees_text=True),
    "a2v_only": replace(TRAINED, reference_sees_text=True),
    "text_only": replace(TRAINED, video_sees_reference=True),
    "positive_positions": replace(TRAINED, placement="shared"),
}
SECOND = torch.tensor([False, True])
PERTURBATIONS = {
    "stg_av": Perturbation((1,)),
    "stg_v": Perturbation((1,), "video"),
    "isolated": Perturbation(isolate=True),
    "mixed_stg_av": Perturbation((1,), samples=SECOND),
    "mixed_isolated": Perturbation(isolate=True, samples=SECOND),
}


@dataclass(frozen=True)
class Golden:
    """The golden files of one layout."""

    name: str

    def tensors(self, kind: str) -> dict[str, Tensor]:
        """Tensors of one file."""
        return load_file(GOLDEN / f"{self.name}_{kind}.safetensors")

    def model(self) -> LTX2:
        """The golden model: the layout's preset at tiny size."""
        config = json.loads((GOLDEN / f"{self.name}_weights.json").read_text())["diffusers_config"]
        preset = replace(PRESETS[LAYOUTS[self.name]], config=config, dtype=torch.float32, device="cpu")
        model = LTX2(preset)
        model.transformer.load_state_dict(self.tensors("weights"))
        return model


def difference(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference."""
    return (a - b).abs().max().item()


def forward_errors(golden: Golden) -> dict[str, float]:
    """Cases 1 to 6: one forward pass each, case 5 perturbed."""
    model, packed = golden.model(), golden.tensors("forward")
    errors = {}
    for case in ("case1", "case2", "case3", "case4", "case6"):
        video, audio = _run(model, packed, case)
        errors[f"{case}.video"] = difference(video, packed[f"{case}.out.video"])
        expected = packed[f"{case}.out.audio"]
        errors[f"{case}.audio"] = difference(audio, expected[:, expected.shape[1] - audio.shape[1] :])
    video, audio = _assembled(model, packed, "case6", replace(TRAINED, positions="bfloat16"))
    errors["case6.assembled.video"] = difference(video, packed["case6.out.video"])
    errors["case6.assembled.audio"] = difference(audio, packed["case6.out.audio"][:, N_REFERENCE:])
    for name, perturbation in PERTURBATIONS.items():
        video, audio = _run(model, packed, "case5", perturbation)
        errors[f"case5.{name}.video"] = difference(video, packed[f"case5.out.{name}.video"])
        errors[f"case5.{name}.audio"] = difference(audio, packed[f"case5.out.{name}.audio"][:, N_REFERENCE:])
    return errors


def _run(
    model: LTX2, packed: dict[str, Tensor], case: str, perturbation: Perturbation = UNPERTURBED
) -> tuple[Tensor, Tensor]:
    def tensor(name: str) -> Tensor:
        return packed.get(f"{case}.in.{name}", packed[f"case2.in.{name}"])

    masks = packed.keys() & {f"{case}.in.a2v_mask", f"{case}.in.audio_text_mask"}
    padding = packed.get("case4.in.context_mask") if case == "case4" else None
    audio = tensor("audio")
    av = AVSequence(
        video=Tokens(tensor("video"), tensor("video_coords"), tensor("video_timesteps") == 0),
        audio=Tokens(
            audio,
            tensor("audio_coords"),
            tensor("audio_timesteps") == 0,
            n_reference=0 if case in ("case1", "case4") else N_REFERENCE,
        ),
        text=TextContext(tensor("video_context"), tensor("audio_context"), None if padding is None else padding.bool()),
        video_sees_reference=not masks,
        reference_sees_text=not masks,
        hidden_text="uniform",
    )
    with torch.no_grad():
        return model(av, tensor("sigma"), perturbation=perturbation)


def _assembled(model: LTX2, packed: dict[str, Tensor], case: str, recipe: InContext) -> tuple[Tensor, Tensor]:
    """Run a case whose positions and masks are made by our recipe; only latents, levels and text are the case's."""

    def tensor(name: str) -> Tensor:
        return packed.get(f"{case}.in.{name}", packed[f"case2.in.{name}"])

    grids, latents = model.geometry, (tensor("video"), tensor("audio")[:, N_REFERENCE:])
    places = grids.video.positions(3, 2, 2), grids.audio.positions(latents[1].shape[1])
    clean = tensor("video_timesteps") == 0, torch.zeros(latents[1].shape[:2], dtype=torch.bool)
    video, audio = (
        Tokens(x, place.expand(len(x), -1, -1, -1), given)
        for x, place, given in zip(latents, places, clean, strict=True)
    )
    text = TextContext(tensor("video_context"), tensor("audio_context"))
    av = recipe.assemble(video, audio, text, tensor("audio")[:, :N_REFERENCE], grids.audio)
    for made, name in ((av.video.positions, "video_coords"), (av.audio.positions, "audio_coords")):
        assert made.dtype == tensor(name).dtype
        assert torch.equal(made, tensor(name)), name
    with torch.no_grad():
        return model(av, tensor("sigma"))


def train_errors(golden: Golden) -> dict[str, float]:
    """One training step: losses of every variant and relative gradients of every adapter tensor; then three steps."""
    model, packed = golden.model(), golden.tensors("train_step")
    variants = {"base_without_lora": _losses(model, packed, TRAINED)}
    load_adapter(model, GOLDEN / f"{golden.name}_lora_comfy.safetensors")
    losses = _losses(model, packed, TRAINED)
    sum(losses.values()).backward()
    errors = {"grad": 0.0}
    for name, weight in _trained(model).items():
        expected = packed[f"grad.{name}"]
        errors["grad"] = max(errors["grad"], difference(weight.grad, expected) / expected.abs().max().item())
    variants |= {name: _losses(model, packed, recipe) for name, recipe in TRAIN_VARIANTS.items()}
    variants["no_first_frame"] = _losses(model, packed, TRAINED, first_frame=False)
    errors["loss"] = difference(_all(losses), torch.stack([packed[f"loss.{x}"] for x in ("total", "video", "audio")]))
    for name, parts in variants.items():
        errors[f"loss.{name}"] = difference(_all(parts), packed[f"loss_variant.{name}"])
    return errors | _three_steps(golden, packed)


def _three_steps(golden: Golden, packed: dict[str, Tensor]) -> dict[str, float]:
    """Three optimiser steps: losses, gradient norms (relative), learning rates and the final adapter."""
    model = golden.model()
    load_adapter(model, GOLDEN / f"{golden.name}_lora_comfy.safetensors")
    weights = _trained(model)
    built = build_optimizer(AdamW(learning_rate=1e-2, state_bits="32"), list(weights.values()), steps=3)
    optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
    losses, norms, rates = [], [], []
    for step in range(3):
        found = _losses(model, packed, TRAINED, step=step)
        sum(found.values()).backward()
        losses.append(_all(found))
        norms.append(torch.nn.utils.clip_grad_norm_(weights.values(), 1.0))
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    expected = packed["train3.grad_norms"]
    prefix = "train3.final.diffusion_model."
    return {
        "steps.losses": difference(torch.stack(losses).double(), packed["train3.losses"]),
        "steps.grad_norms": ((torch.stack(norms).double() - expected) / expected).abs().max().item(),
        "steps.lrs": difference(torch.tensor(rates, dtype=torch.float64), packed["train3.lrs"]),
        "steps.adapter": max(difference(weight, packed[prefix + name]) for name, weight in weights.items()),
    }


def _trained(model: LTX2) -> dict[str, Tensor]:
    """Return the adapter's weights by the names of the golden files."""
    named = model.transformer.named_parameters()
    return {name.replace(".default.weight", ".weight"): weight for name, weight in named if weight.requires_grad}


def _all(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack([sum(losses.values()), losses["video"], losses["audio"]]).detach()


def _losses(
    model: LTX2, packed: dict[str, Tensor], recipe: InContext, *, step: int = 0, first_frame: bool = True
) -> dict[str, Tensor]:
    latents = (packed[f"batch.{name}_latents"] for name in ("video", "audio", "ref_audio"))
    text = TextContext(packed["batch.video_prompt_embeds"], packed["batch.audio_prompt_embeds"])
    features = TextFeatures(text.video, text.audio, torch.ones(text.video.shape[:2], dtype=torch.bool))
    sigma, given = packed[f"sigma.{step}"], torch.full((2,), first_frame)
    noise = Noise(sigma, packed[f"noise.{step}.video"], packed[f"noise.{step}.audio"], given)
    return flow_losses(model, recipe, PairBatch(*latents, features, [{}, {}]), noise, text)


def sampler_errors(golden: Golden) -> dict[str, float]:
    """Four guided Euler steps, and two variants with other terms."""
    model, packed = golden.model(), golden.tensors("sampler_4step")
    terms = (TextGuidance(), IdentityGuidance(), PerturbedGuidance(blocks=(1,)), ModalityGuidance())
    runs = {
        "out": _sample(model, packed, terms),
        "variant.identity_only": _sample(model, packed, (IdentityGuidance(),)),
        "variant.no_reference": _sample(model, packed, terms, with_reference=False),
    }
    errors = {}
    for name, av in runs.items():
        errors[f"{name}.video"] = difference(av.video.latents, packed[f"{name}.video_latent"])
        errors[f"{name}.audio"] = difference(av.audio.target().latents, packed[f"{name}.audio_latent"])
    return errors


def _texts(packed: dict[str, Tensor]) -> list[TextContext]:
    return [
        TextContext(packed[f"in.video_context_{sign}"], packed[f"in.audio_context_{sign}"]) for sign in ("pos", "neg")
    ]


def _sample(model: LTX2, packed: dict[str, Tensor], terms: tuple, *, with_reference: bool = True) -> AVSequence:
    prompt, negative = _texts(packed)
    video_clean = torch.arange(12)[None] < FIRST_FRAME_TOKENS
    first_frame = patchify_video(packed["in.first_frame_latent"])
    video = packed["in.noise_video"].clone()
    video[:, :FIRST_FRAME_TOKENS] = first_frame
    audio = packed["in.noise_audio"][:, N_REFERENCE:] if with_reference else packed["in.noise_audio_noref"]
    reference = patchify_audio(packed["in.reference_audio_latent"]) if with_reference else None
    grids = model.geometry
    start = InContext(video_sees_reference=True, reference_sees_text=True).assemble(
        Tokens(video, grids.video.positions(3, 2, 2), video_clean),
        Tokens(audio, grids.audio.positions(17), torch.zeros(1, 17, dtype=torch.bool)),
        prompt,
        reference,
        grids.audio,
    )
    with torch.no_grad():
        return sample_euler(lambda av, sigma: guided(model, av, sigma, terms, negative), start, packed["in.sigmas"])


def hq_errors(golden: Golden) -> dict[str, float]:
    """Stage 1 of the two-stage HQ script: four res2s steps with projected text guidance and the noise it drew."""
    model, packed = golden.model(), golden.tensors("hq_res2s_and_stage2")
    prompt, negative = _texts(packed)
    grids, audio = model.geometry, packed["hq.initial_audio"]
    start = InContext(video_sees_reference=True, reference_sees_text=True).assemble(
        Tokens(packed["hq.initial_video"], grids.video.positions(3, 2, 2), torch.arange(12)[None] < FIRST_FRAME_TOKENS),
        Tokens(audio[:, N_REFERENCE:], grids.audio.positions(17), torch.zeros(1, 17, dtype=torch.bool)),
        prompt,
        audio[:, :N_REFERENCE],
        grids.audio,
    )
    stored = [packed[f"hq.sde_noise.{turn:02d}"] for turn in range(16)]
    drawn = sde_noise(start, [], "released")
    errors = {"noise": max(difference(noise, next(drawn)) for noise in stored)}
    terms = (TextGuidance(projected=True), IdentityGuidance(), ModalityGuidance())
    with torch.no_grad():
        end = sample_res2s(
            lambda av, sigma: guided(model, av, sigma, terms, negative), start, packed["hq.sigmas"], iter(stored)
        )
    errors["video"] = difference(end.video.latents, packed["hq.final_video"])
    return errors | {"audio": difference(end.audio.latents, packed["hq.final_audio"])}


def noise_errors(golden: Golden) -> dict[str, float]:
    """The start noise of the sampling run (seed 42), drawn anew in float32 on the CPU."""
    packed = golden.tensors("sampler_4step")
    video, audio = packed["in.noise_video"], packed["in.noise_audio"]
    drawn = released_noise(42, video.shape[1], audio.shape[1], video.shape[2])
    without = released_noise(42, video.shape[1], audio.shape[1] - N_REFERENCE, video.shape[2])
    return {
        "video": difference(drawn[0], video),
        "audio": difference(drawn[1], audio),
        "audio_without_reference": difference(without[1], packed["in.noise_audio_noref"]),
    }


CHECKS = {"forward": forward_errors, "train": train_errors, "noise": noise_errors, "sampler": sampler_errors}


def main() -> None:
    """Print every error, by layout and check."""
    errors = {}
    for name in LAYOUTS:
        golden = Golden(name)
        for check, run in CHECKS.items():
            errors |= {f"{name}.{check}.{key}": value for key, value in run(golden).items()}
    errors |= {f"m23.hq.{key}": value for key, value in hq_errors(Golden("m23")).items()}
    print(json.dumps(errors, indent=1))


if __name__ == "__main__":
    main()
