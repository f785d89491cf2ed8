"""Training cases by another path: low-rank updates added to the weights, losses and AdamW written out; see `stock`."""

import re
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call

from tests.parity.stock import HIDDEN, TARGETS, Stock, write_case

LEARNING_RATE, STEPS = 5e-3, 2
MASKS = ("a2v_mask", "audio_text_mask")


class Step:
    """One training step of a stock model with low-rank updates (spec sections 3.2 and 3.3)."""

    def __init__(self, stock: Stock, lora: dict[str, Tensor], scale: float, sizes: tuple, first_frame: bool) -> None:
        self.stock, self.lora, self.scale, self.first_frame = stock, lora, scale, first_frame
        self.batch, self.grid, self.n_reference, self.n_target, self.n_text, self.fps = sizes
        shape = (self.batch, 8)
        self.data = {
            "video_latents": stock.normal(self.batch, 128, *self.grid),
            "audio_latents": stock.normal(*shape, self.n_target, 16),
            "ref_audio_latents": stock.normal(*shape, self.n_reference, 16),
        }
        self.text = stock.context(self.batch, self.n_text)
        x0 = self.data["video_latents"].flatten(2).mT, self.data["audio_latents"].transpose(1, 2).flatten(2)
        self.x0 = {"video": x0[0], "audio": x0[1]}
        self.reference = self.data["ref_audio_latents"].transpose(1, 2).flatten(2)

    def prepare(self, sigma: Tensor, noise: dict, *, first_frame: bool, shared: bool = False) -> dict[str, Tensor]:
        """Return the prepared inputs, under the names of a golden case."""
        frames, rows, columns = self.grid
        level, n_video = sigma[:, None, None], frames * rows * columns
        given = ((torch.arange(n_video) < rows * columns) & first_frame).expand(self.batch, -1)
        noisy = {name: (1 - level) * x0 + level * noise[name] for name, x0 in self.x0.items()}
        coords = self.stock.positions(self.batch, self.grid, self.fps, self.n_target, self.n_reference, shared)
        old = torch.arange(self.n_reference + self.n_target).expand(self.batch, -1) < self.n_reference
        a2v, text = (
            torch.zeros(self.batch, *shape) for shape in ((n_video, old.shape[1]), (old.shape[1], self.n_text))
        )
        a2v[:, :, : self.n_reference] = HIDDEN
        text[:, : self.n_reference] = HIDDEN
        return {
            "video_noisy": torch.where(given[..., None], self.x0["video"], noisy["video"]),
            "audio_combined": torch.cat([self.reference, noisy["audio"]], dim=1),
            "video_timesteps": sigma[:, None] * ~given,
            "audio_timesteps": sigma[:, None] * ~old,
            "video_coords": coords[0],
            "audio_coords": coords[1],
            "a2v_mask": a2v,
            "audio_text_mask": text,
            "video_targets": noise["video"] - self.x0["video"],
            "audio_targets": noise["audio"] - self.x0["audio"],
            "video_loss_mask": ~given,
            "audio_loss_mask": ~old,
        }

    def predict(
        self, prepared: dict, sigma: Tensor, masks: tuple = ("a2v_mask", "audio_text_mask"), adapted: bool = True
    ):
        """Return the velocities of all tokens."""
        inputs = {
            "video": prepared["video_noisy"],
            "audio": prepared["audio_combined"],
            "video_context": self.text["video"],
            "audio_context": self.text["audio"],
            "sigma": sigma,
            **{name: prepared[name] for name in prepared if name.endswith(("timesteps", "coords"))},
            **{name: prepared[name] for name in masks},
        }
        weights = dict(self.stock.model.named_parameters())
        for key in self.lora if adapted else ():
            if key.endswith("lora_A.weight"):
                name, down = key.removeprefix("diffusion_model.").replace("lora_A.", ""), self.lora[key]
                weights[name] = weights[name] + self.scale * self.lora[key.replace("lora_A", "lora_B")] @ down
        return functional_call(_Call(self.stock), {f"model.{n}": w for n, w in weights.items()}, (inputs,))

    def losses(self, predicted: tuple, prepared: dict) -> Tensor:
        """Return (total, video, audio)."""
        mask = prepared["video_loss_mask"].float()[..., None]
        video = ((predicted[0] - prepared["video_targets"]).square() * mask / mask.mean()).mean()
        audio = (predicted[1][:, self.n_reference :] - prepared["audio_targets"]).square().mean()
        return torch.stack([video + audio, video, audio])


class _Call(torch.nn.Module):
    """A stock call as a module, so that its weights can be exchanged."""

    def __init__(self, stock: Stock) -> None:
        super().__init__()
        self.model, self.stock = stock.model, [stock]

    def forward(self, inputs: dict) -> tuple[Tensor, Tensor]:
        return self.stock[0](inputs)


def draw_lora(stock: Stock, rank: int) -> dict[str, Tensor]:
    """Draw a trained adapter in the authors' key names."""
    lora = {}
    for name, weight in stock.model.named_parameters():
        found = re.fullmatch(r"(transformer_blocks\.\d+\.(.+))\.weight", name)
        if found and found[2] in TARGETS:
            lora[f"diffusion_model.{found[1]}.lora_A.weight"] = 0.2 * stock.normal(rank, weight.shape[1])
            lora[f"diffusion_model.{found[1]}.lora_B.weight"] = 0.2 * stock.normal(weight.shape[0], rank)
    return lora


def make_training(folder: Path, letter: str, stock: Stock, *, alpha: float, first_frame: bool) -> None:
    """Write an adapter and a training step with it, variants, gradients, and two steps of AdamW."""
    lora = draw_lora(stock, rank := 3)
    keys = {key: list(tensor.shape) for key, tensor in lora.items()}
    write_case(folder, f"{letter}_lora", {"kind": "adapter_file", "layout": stock.layout, "keys": keys}, lora)
    weights = {key: tensor.clone().requires_grad_() for key, tensor in lora.items()}
    step = Step(stock, weights, alpha / rank, (3, (2, 1, 3), 4, 9, 5, 24.0), first_frame)
    sigmas = [torch.rand(3, generator=stock.random) * 0.9 + 0.05 for _ in range(STEPS)]
    noises = [{name: stock.normal(*x0.shape) for name, x0 in step.x0.items()} for _ in range(STEPS)]
    tensors = {f"batch.{name}": tensor for name, tensor in step.data.items()}
    tensors |= {f"batch.{name}_prompt_embeds": tensor for name, tensor in step.text.items()}
    tensors |= {f"sigma.{index}": sigma for index, sigma in enumerate(sigmas)}
    tensors |= {f"noise.{index}.{name}": noise[name] for index, noise in enumerate(noises) for name in noise}
    prepared = step.prepare(sigmas[0], noises[0], first_frame=first_frame)
    predicted = step.predict(prepared, sigmas[0])
    losses = step.losses(predicted, prepared)
    gradients = torch.autograd.grad(losses[0], list(weights.values()))
    tensors |= {f"prep.{name}": tensor for name, tensor in prepared.items()}
    tensors |= {"pred.video": predicted[0], "pred.audio": predicted[1]}
    tensors |= {f"loss.{name}": value for name, value in zip(("total", "video", "audio"), losses, strict=True)}
    named = (key.removeprefix("diffusion_model.") for key in weights)
    tensors |= {f"grad.{name}": gradient for name, gradient in zip(named, gradients, strict=True)}
    tensors["grad_norm"] = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    variants = make_variants(step, sigmas[0], noises[0], first_frame)
    tensors |= {f"loss_variant.{name}": value for name, value in variants.items()}
    tensors |= train(step, sigmas, noises, first_frame)
    fields = {
        "kind": "train_step", "layout": stock.layout, "tolerance": {"loss_abs": 1e-6, "grad_rel": 1e-5},
        "weights": f"{letter}_weights.safetensors", "lora": f"{letter}_lora.safetensors", "lora_rank": rank,
        "lora_alpha": alpha, "target_modules": TARGETS, "first_frame_conditioning_p": float(first_frame), "fps": 24.0,
        "loss": losses.tolist(), "loss_variants": {name: value.tolist() for name, value in variants.items()},
    }  # fmt: skip
    write_case(folder, f"{letter}_train", fields, tensors)


@torch.no_grad()
def make_variants(step: Step, sigma: Tensor, noise: dict, first_frame: bool) -> dict[str, Tensor]:
    """Return the losses of other configurations."""
    plain = step.prepare(sigma, noise, first_frame=first_frame)
    shared = step.prepare(sigma, noise, first_frame=first_frame, shared=True)
    runs = {
        "no_masks": (plain, ()),
        "a2v_only": (plain, MASKS[:1]),
        "text_only": (plain, MASKS[1:]),
        "no_first_frame": (step.prepare(sigma, noise, first_frame=False), MASKS),
        "positive_positions": (shared, MASKS),
    }
    found = {name: step.losses(step.predict(made, sigma, used), made) for name, (made, used) in runs.items()}
    return found | {"base_without_lora": step.losses(step.predict(plain, sigma, adapted=False), plain)}


def train(step: Step, sigmas: list, noises: list, first_frame: bool) -> dict[str, Tensor]:
    """Return what AdamW does in some steps, written out (spec section 3.4)."""
    weights = {key: tensor.detach().clone().requires_grad_() for key, tensor in step.lora.items()}
    state = {key: (torch.zeros_like(tensor), torch.zeros_like(tensor)) for key, tensor in weights.items()}
    step.lora, losses, norms, rates = weights, [], [], []
    for index, (sigma, noise) in enumerate(zip(sigmas, noises, strict=True)):
        prepared = step.prepare(sigma, noise, first_frame=first_frame)
        found = step.losses(step.predict(prepared, sigma), prepared)
        gradients = torch.autograd.grad(found[0], list(weights.values()))
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        rate = LEARNING_RATE * (1 - 0.9 * index / STEPS)
        for (key, weight), gradient in zip(weights.items(), gradients, strict=True):
            clipped = gradient * (1 / (norm + 1e-6)).clamp(max=1)
            first, second = state[key]
            first.mul_(0.9).add_(0.1 * clipped)
            second.mul_(0.999).add_(0.001 * clipped**2)
            power = index + 1
            change = (first / (1 - 0.9**power)) / ((second / (1 - 0.999**power)).sqrt() + 1e-8)
            weight.data = weight.data * (1 - rate * 0.01) - rate * change
        losses.append(found.detach().double())
        norms.append(norm.double())
        rates.append(rate)
    made = {"losses": torch.stack(losses), "grad_norms": torch.stack(norms), "lrs": torch.tensor(rates).double()}
    return {
        f"train{STEPS}.{name}": tensor
        for name, tensor in (made | {f"final.{k}": w for k, w in weights.items()}).items()
    }
