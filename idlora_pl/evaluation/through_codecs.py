"""The real clips through the codecs of a base model: the best that any clip generated with them can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast, get_args

import torch
from rich.progress import track

from idlora_pl.benchmark.items import Item
from idlora_pl.evaluation.clips import ClipSource, short_hash
from idlora_pl.generation.base_model import ClipCodecs, load_codecs
from idlora_pl.ltx2.presets import PresetName
from idlora_pl.media.clip import Clip, MediaError
from idlora_pl.media.reading import probe, read_clip, read_metadata
from idlora_pl.media.writing import write_clip


def reconstructed(
    items: Sequence[Item],
    folder: Path,
    base: str,
    weights: Path | None = None,
    size: tuple[int, int] | None = None,
) -> dict[str, ClipSource]:
    """Encode and decode the target of each item into `folder`.

    A clip that is there is kept if it was made of this target with this base and size, which stand in its tags.

    Args:
        items: As `read_prompts` gives them.
        folder: Where the decoded clips are written, as mp4 in the quality of generated ones.
        base: Base model whose codecs are used.
        weights: Its weights; None for "nano".
        size: (H, W) to cover and crop to; None takes the codecs' own, or the clip's cut to what the codecs take.

    Raises:
        ValueError: The base is unknown or needs weights, or an item has no target.
    """
    if base not in get_args(PresetName):
        raise ValueError(f"--base must be one of {', '.join(get_args(PresetName))}; got {base!r}")
    codecs = load_codecs(cast(PresetName, base), weights)
    found = {}
    for item in track(items, description="targets through the codecs"):
        path = folder / f"{item.id}.mp4"
        tags = _tags(item, base, size)
        reason = "" if tags and _is_made_so(path, tags) else _reconstruct(item, path, codecs, size, tags)
        notes = {"bound": "vae", "bound_base": base}
        found[item.id] = ClipSource(None, reason, notes) if reason else ClipSource(path, notes=notes)
    return found


def _tags(item: Item, base: str, size: tuple[int, int] | None) -> dict[str, str]:
    """Return what a clip is made of, for its tags; nothing without a target."""
    if item.target is None:
        return {}
    shown = "own" if size is None else f"{size[0]}x{size[1]}"
    made = {"source": "a recording, encoded and decoded", "base": base, "size": shown, "enlarged": "as its target"}
    return made | {"target_sha256": short_hash(item.target)}


def _is_made_so(path: Path, tags: Mapping[str, str]) -> bool:
    """Say whether a clip is there and was made of this; clips of older versions do not say."""
    try:
        return path.is_file() and tags.items() <= read_metadata(path).items()
    except MediaError:
        return False


def _reconstruct(
    item: Item, path: Path, codecs: ClipCodecs, size: tuple[int, int] | None, tags: Mapping[str, str]
) -> str:
    """Write one clip; return the reason where that is not possible."""
    if item.target is None:
        return "no_target"
    try:
        clip = _fitting(item.target, codecs, size)
    except MediaError:
        return "target_unreadable"
    if clip is None:
        return "too_short"
    n_tokens = codecs.n_audio_tokens(len(clip.frames))
    with torch.no_grad():
        video = codecs.decode_video(codecs.encode_video(clip.frames[None]))[0]
        audio = codecs.encode_audio(clip.waveform[None], clip.sample_rate_hz, n_tokens=n_tokens)
        sound = codecs.decode_audio(audio)[0]
    made = Clip(video.cpu(), sound.cpu().float(), clip.frame_rate_fps, codecs.sample_rate_hz)
    write_clip(made, path, scale=_enlarged(item.target, codecs, made), generated=True, metadata=tags)
    return ""


def _enlarged(target: Path, codecs: ClipCodecs, made: Clip) -> int:
    """Return by how much a clip of codecs with a size of their own (nano) is enlarged: to the size of its target.

    Generated clips of the nano world are written so, too: small pictures lose more in H.264.
    """
    if getattr(codecs, "frame_size", None) is None:
        return 1
    stored = read_clip(target, n_frames=1).frames.shape[-2:]
    return max(1, min(there // here for there, here in zip(stored, made.frames.shape[-2:], strict=True)))


def _fitting(path: Path, codecs: ClipCodecs, size: tuple[int, int] | None) -> Clip | None:
    """Read the part of a clip that the codecs take: their frame rate, a whole number of groups and patches."""
    grid = codecs.geometry.video
    n_frames = int(probe(path).duration_s * grid.frame_rate_fps + 1e-3)
    n_frames = (n_frames - 1) // grid.temporal_stride * grid.temporal_stride + 1
    patch = grid.spatial_stride
    own: tuple[int, int] | None = getattr(codecs, "frame_size", None)
    stored = read_clip(path, n_frames=1).frames.shape[-2:]
    height, width = size or own or (stored[0] // patch * patch, stored[1] // patch * patch)
    if n_frames < 1 or not height or not width:
        return None
    return read_clip(path, frame_rate_fps=grid.frame_rate_fps, n_frames=n_frames, size=(height, width))
