"""Cases of every kind with other shapes, seeds, layer counts and lengths than the golden ones; see `stock`."""

from pathlib import Path

import torch
from torch import Tensor

from tests.parity.made_numbers import make_numbers
from tests.parity.made_sampling import make_high_quality, make_sampler
from tests.parity.made_training import make_training
from tests.parity.stock import HIDDEN, Stock, write_case

LAYOUTS = {"a": "ltx2-19b", "b": "ltx2.3-22b"}


def make_folder(folder: Path) -> None:
    """Write all cases."""
    for letter, layout in LAYOUTS.items():
        stock = Stock(layout, seed=ord(letter))
        weights = f"{letter}_weights"
        state = stock.model.state_dict()
        fields = {"kind": "weights", "layout": layout, "diffusers_config": stock.config}
        write_case(folder, weights, fields | {"params": sum(p.numel() for p in stock.model.parameters())}, state)
        make_forward(folder, letter, stock)
        make_perturbed(folder, letter, stock)
        make_training(folder, letter, stock, alpha=6.0 if letter == "a" else 3.0, first_frame=letter == "a")
        make_sampler(folder, letter, stock, mode="stg_v" if letter == "a" else "stg_av")
    make_high_quality(folder, letter, stock)
    make_numbers(folder)


def common(letter: str, stock: Stock, kind: str, tolerance: object, field: str = "weights") -> dict:
    """Return the fields that cases with a model share."""
    return {
        "kind": kind,
        "layout": stock.layout,
        "tolerance": tolerance,
        field: f"{letter}_weights.safetensors",
        "diffusers_config": stock.config,
    }


def make_inputs(stock: Stock, batch: int, grid: tuple, lengths: tuple[int, int, int], fps: float) -> dict:
    """Draw the inputs of a forward case and return them with their dims; lengths of reference, target and text."""
    (frames, rows, columns), (n_reference, n_target, n_text) = grid, lengths
    n_video, sigma = frames * rows * columns, torch.rand(batch, generator=stock.random) * 0.9 + 0.05
    video_clean = (torch.arange(n_video) < rows * columns) & bool(n_reference)
    audio_clean = torch.arange(n_reference + n_target) < n_reference
    coords = stock.positions(batch, grid, fps, n_target, n_reference)
    context = stock.context(batch, n_text)
    inputs = {
        "video": stock.normal(batch, n_video, 128),
        "audio": stock.normal(batch, n_reference + n_target, 128),
        "video_context": context["video"],
        "audio_context": context["audio"],
        "sigma": sigma,
        "video_timesteps": sigma[:, None] * ~video_clean,
        "audio_timesteps": sigma[:, None] * ~audio_clean,
        "video_coords": coords[0],
        "audio_coords": coords[1],
    }
    dims = {
        "B": batch, "latent_frames": frames, "latent_h": rows, "latent_w": columns, "video_tokens": n_video,
        "ref_audio_tokens": n_reference, "target_audio_tokens": n_target, "text_len": n_text, "fps": fps,
    }  # fmt: skip
    return {"inputs": inputs, "dims": dims}


def masks(batch: int, n_video: int, n_reference: int, n_target: int, n_text: int) -> dict[str, Tensor]:
    """Return the two masks of training (spec section 2.1)."""
    a2v, text = torch.zeros(batch, n_video, n_reference + n_target), torch.zeros(batch, n_reference + n_target, n_text)
    a2v[:, :, :n_reference] = HIDDEN
    text[:, :n_reference] = HIDDEN
    return {"a2v_mask": a2v, "audio_text_mask": text}


@torch.no_grad()
def make_forward(folder: Path, letter: str, stock: Stock) -> None:
    """Write four forward cases: plain, with a reference, with both masks in bfloat16 positions, with padded text."""
    drawn = {
        "plain": make_inputs(stock, 1, (1, 2, 3), (0, 4, 3), 25.0),
        "reference": make_inputs(stock, 3, (2, 3, 1), (11, 4, 7), 30.0),
        "masks": make_inputs(stock, 2, (4, 1, 2), (3, 13, 5), 24.0),
        "padding": make_inputs(stock, 2, (2, 2, 2), (0, 6, 8), 25.0),
    }
    drawn["masks"]["inputs"] |= masks(2, 8, 3, 13, 5)
    drawn["masks"]["inputs"] |= {"context_mask": torch.ones(2, 5, dtype=torch.int64)}
    drawn["padding"]["inputs"]["context_mask"] = (torch.arange(8) < torch.tensor([[3], [8]])).long()
    for name, made in drawn.items():
        inputs = made["inputs"]
        if name == "masks":
            inputs |= bf16_positions(stock, inputs, (4, 1, 2), 24.0, 13, 3)
        video, audio = stock(inputs)
        tensors = {f"in.{key}": tensor for key, tensor in inputs.items()} | {"out.video": video, "out.audio": audio}
        fields = common(letter, stock, "forward", 1e-5, "model_weights") | {"dims": made["dims"]}
        write_case(folder, f"{letter}_forward_{name}", fields, tensors)


def bf16_positions(stock: Stock, inputs: dict, grid: tuple, fps: float, n_target: int, n_reference: int) -> dict:
    """Return positions rounded as the trainer does: grids to bfloat16, then the reference moved in bfloat16."""
    video, audio = (x.bfloat16() for x in stock.positions(len(inputs["sigma"]), grid, fps, n_target, 0))
    _, reference = (x.bfloat16() for x in stock.positions(len(inputs["sigma"]), grid, fps, n_reference, 0))
    reference = reference - float(reference[..., 1].max()) - 0.04
    return {"video_coords": video, "audio_coords": torch.cat([reference, audio], dim=2)}


@torch.no_grad()
def make_perturbed(folder: Path, letter: str, stock: Stock) -> None:
    """Write a case with several perturbed blocks and mixed batches of three samples."""
    made = make_inputs(stock, 3, (3, 1, 2), (6, 5, 4), 25.0)
    inputs, blocks, mixed = made["inputs"], (0, 2), torch.tensor([True, False, True])[:, None, None]
    runs = {
        "plain": stock(inputs),
        "stg_av": stock(inputs, blocks),
        "stg_v": stock(inputs, blocks, "stg_v"),
        "isolated": stock(inputs, isolated=True),
    }
    for name in ("stg_av", "isolated"):
        runs[f"mixed_{name}"] = tuple(
            torch.where(mixed, perturbed, plain) for perturbed, plain in zip(runs[name], runs["plain"], strict=True)
        )
    tensors = {f"in.{key}": tensor for key, tensor in inputs.items()}
    for name in runs.keys() - {"plain"}:
        tensors |= {f"out.{name}.{m}": x for m, x in zip(("video", "audio"), runs[name], strict=True)}
    fields = common(letter, stock, "perturbed_forward", 1e-5, "model_weights")
    write_case(folder, f"{letter}_perturbed", fields | {"dims": made["dims"], "stg_blocks": list(blocks)}, tensors)
