"""Floating-point operations of a training step and of a guided step, counted on shapes alone: no memory, no card.

    python -m benchmarks.flops                      # 19B, 512x512x121, 5 s of voice

Rule for MFU (model FLOPs utilisation): what counts is one forward pass and the backward pass of what needs it. A frozen
linear needs the gradient of its input and none of its weight. What checkpointing computes a second time does not count.
"""

from __future__ import annotations

import json
from dataclasses import replace

import torch
from jsonargparse import auto_cli
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from idlora_pl.generation.sampling import Stage
from idlora_pl.ltx2.lora import attach_lora
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.guidance import guided
from idlora_pl.method.in_context import InContext
from idlora_pl.method.tokens import AVSequence, TextContext, Tokens, audio_tokens, video_tokens

PEAK_TFLOPS = {"H100": 989.4, "H200": 989.4}
"""Dense bfloat16 matrix products by NVIDIA's data sheets of the SXM parts."""


def shapes_of(
    model: LTX2, *, batch: int, frames: int, height: int, width: int, reference_s: float, text_tokens: int
) -> AVSequence:
    """Build a sequence of which only the shapes are there, on the device "meta".

    Args:
        model: Its preset says the channels.
        batch: Clips.
        frames: Frames of the target at 25 a second.
        height: Pixels.
        width: Pixels.
        reference_s: Seconds of the voice.
        text_tokens: Length of the prompt's context.
    """
    grid = ((frames - 1) // 8 + 1, height // 32, width // 32)
    n_video, n_audio = grid[0] * grid[1] * grid[2], round(frames / 25 * 25)
    channels = model.preset.token_channels
    sigma, given = torch.full((batch,), 0.5), torch.ones(batch, dtype=torch.bool)
    video, audio = torch.zeros(batch, n_video, channels[0]), torch.zeros(batch, n_audio, channels[1])
    text = TextContext(*(torch.zeros(batch, text_tokens, width) for width in model.preset.text_channels))
    geometry = model.geometry
    av = InContext().assemble(
        video_tokens(video, video, sigma, shape=grid, first_frame=given, grid=geometry.video),
        audio_tokens(audio, audio, sigma, grid=geometry.audio),
        text,
        torch.zeros(batch, round(reference_s * 25), channels[1]),
        geometry.audio,
    )
    return replace(
        av, video=_meta(av.video), audio=_meta(av.audio), text=TextContext(*map(_shape, (text.video, text.audio)))
    )


def _shape(tensor: Tensor) -> Tensor:
    return tensor.to("meta")


def _meta(tokens: Tokens) -> Tokens:
    return replace(
        tokens, latents=_shape(tokens.latents), positions=_shape(tokens.positions), clean=_shape(tokens.clean)
    )


def counted(
    preset: str = "ltx2-19b",
    batch: int = 1,
    frames: int = 121,
    height: int = 512,
    width: int = 512,
    reference_s: float = 5.0,
    text_tokens: int = 1024,
    rank: int = 128,
) -> dict[str, float]:
    """Count the operations of one forward, one training step and one guided step.

    Args:
        preset: Base model.
        batch: Clips.
        frames: Frames of the target at 25 a second.
        height: Pixels.
        width: Pixels.
        reference_s: Seconds of the voice.
        text_tokens: Length of the prompt's context.
        rank: Of the adapter.

    Returns:
        TFLOP of "forward", "training" (forward and backward, nothing recomputed) and "guided" (five passes).
    """
    model = LTX2.from_preset(preset, device="meta")
    attach_lora(model, rank)
    size = {"batch": batch, "frames": frames, "height": height, "width": width}
    av = shapes_of(model, **size, reference_s=reference_s, text_tokens=text_tokens)
    sigma = torch.full((batch,), 0.5, device="meta")
    found: dict[str, float] = {}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(av, sigma)
    found["forward"] = counter.get_total_flops() / 1e12
    with FlopCounterMode(display=False) as counter, torch.autocast("cpu", torch.bfloat16):
        v_video, v_audio = model(av, sigma)
        (v_video.float().sum() + v_audio.float().sum()).backward()
    found["training"] = counter.get_total_flops() / 1e12
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        guided(model, av, sigma, Stage().guidance(model.preset.stg_block), av.text)
    found["guided"] = counter.get_total_flops() / 1e12
    return found


if __name__ == "__main__":
    found = auto_cli(counted, as_positional=False)
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))
