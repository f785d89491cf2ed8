"""The model of a case: our `LTX2` with the case's architecture, the conventions of its layout, and its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from idlora_pl.ltx2.presets import PRESETS
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.positions import AudioGrid, Geometry, VideoGrid
from idlora_pl.method.tokens import AVSequence
from idlora_pl.parity.cases import LAYOUTS, Case, CaseError
from idlora_pl.parity.reading import read_fields, read_tensors

WEIGHTS = ("model_weights", "weights")
"""The field that names the weights: the first in forward cases, the second elsewhere."""

BARE = ("train_step", "contrast")
"""Kinds without `diffusers_config`."""


def model_of(case: Case, *, frame_rate_fps: float = 25.0) -> LTX2:
    """Build the model of a case and load its weights.

    Args:
        case: names layout, weights and configuration.
        frame_rate_fps: of the case's clips; it sets the time axis of video positions.

    Raises:
        CaseError: when one of them is missing, or the weights are not those of the configuration.
    """
    field = next((name for name in WEIGHTS if case.has_field(name)), WEIGHTS[1])
    path = case.file(field)
    model = empty_model(case, configuration(case), frame_rate_fps=frame_rate_fps)
    load_weights(model, path, read_tensors(path))
    return model.requires_grad_(False).eval()


def load_weights(model: LTX2, path: Path, weights: Mapping[str, Tensor]) -> None:
    """Load weights with diffusers' names, every one of them.

    Args:
        model: gets them.
        path: the file they come from, for the message.
        weights: by name.

    Raises:
        CaseError: when a name is missing or unknown, or a shape is not the model's.
    """
    needed = model.transformer.state_dict()
    for name in sorted(needed.keys() | weights.keys()):
        if name not in weights:
            raise CaseError(path.name, name, "is missing; the model of diffusers_config needs it")
        if name not in needed:
            raise CaseError(path.name, name, "is unknown; the model of diffusers_config has no such weight")
        if weights[name].shape != needed[name].shape:
            found, wanted = tuple(weights[name].shape), tuple(needed[name].shape)
            raise CaseError(path.name, name, f"has shape {found}; diffusers_config makes it {wanted}")
    model.transformer.load_state_dict(dict(weights))


def empty_model(case: Case, config: Mapping[str, Any], *, frame_rate_fps: float = 25.0, device: str = "cpu") -> LTX2:
    """Build the model of a configuration with the conventions of the case's layout; its weights are random.

    Only a key map may leave the layout out: it is that of both.

    Raises:
        CaseError: when the layout is unknown or the class refuses the configuration.
    """
    both = case.kind == "adapter_keymap" and not case.has_field("layout")
    layout = PRESETS[LAYOUTS[0] if both else case.layout]
    try:
        preset = replace(layout, config=dict(config), dtype=torch.float32, device=device)
        model = LTX2(preset)
        model.geometry = _geometry(model.transformer.config, frame_rate_fps)
    except (TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, IndexError) as error:
        raise case.wrong(
            "diffusers_config", f"is refused by diffusers' LTX2VideoTransformer3DModel: {error}"
        ) from error
    return model


def configuration(case: Case) -> Mapping[str, Any]:
    """Return `diffusers_config` of the case or, for kinds that have none, that of the JSON beside their weights."""
    if case.has_field("diffusers_config"):
        return case.mapping("diffusers_config")
    field = next((name for name in WEIGHTS if case.has_field(name)), None)
    beside = case.file(field).with_suffix(".json") if field is not None and case.kind in BARE else None
    if beside is None or not beside.is_file():
        place = "" if beside is None else f", as is {beside.name}, which would tell it"
        raise case.wrong("diffusers_config", f"is missing{place}")
    return Case(beside, read_fields(beside), {}).mapping("diffusers_config")


def _geometry(config: Any, frame_rate_fps: float) -> Geometry:
    frames, pixels, _ = config["vae_scale_factors"]
    audio = AudioGrid(config["audio_sampling_rate"], config["audio_hop_length"], config["audio_scale_factor"])
    return Geometry(VideoGrid(frame_rate_fps, frames, pixels), audio)


def channels_of(model: LTX2) -> tuple[int, int]:
    """Return the width of a video and of an audio token."""
    config: Any = model.transformer.config
    return config["in_channels"], config["audio_in_channels"]


@contextmanager
def all_rows(model: LTX2) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect what the transformer returns while the context is open, reference rows included.

    `LTX2` cuts the rows of reference tokens off, because nothing uses them; the cases store them.
    """
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(_module: nn.Module, _arguments: object, output: tuple[Tensor, Tensor]) -> None:
        seen.append((output[0].detach(), output[1].detach()))

    handle = model.transformer.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def with_reference_rows(velocity: Tensor, rows: Tensor, n_reference: int) -> Tensor:
    """Put the rows of reference tokens, out of `all_rows`, in front of a velocity (B, N, C)."""
    return torch.cat([rows[:, :n_reference], velocity.detach()], dim=1)


@torch.no_grad()
def velocities(model: LTX2, av: AVSequence, sigma: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """Run the model once; (B, N, C) of video and audio with the rows of reference tokens."""
    with all_rows(model) as seen:
        video, audio = model(av, sigma, **options)
    (_, rows), *_ = seen
    return video, with_reference_rows(audio, rows, av.audio.n_reference)
