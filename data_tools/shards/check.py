"""What is in a shard set: its faults, each with its shard, its member and a reason, and a picture of one sample.

Nothing is unpacked.
"""

from __future__ import annotations

import json
import tarfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import torch
from torch import Tensor
from torchaudio.transforms import MelSpectrogram

from idlora_pl.data.samples import META_FILE, TENSORS_FILE, PairSample, ShardError, decode_sample
from idlora_pl.data.shards import INDEX_NAME, ShardFile, ShardIndex, is_key, sha256_of
from idlora_pl.files import replacing

if TYPE_CHECKING:
    from idlora_pl.generation.base_model import ClipCodecs

SUFFIXES = (TENSORS_FILE, META_FILE)


@dataclass(frozen=True)
class Fault:
    """Something that is wrong.

    Attributes:
        shard: name of the tar file.
        member: name of the file in it; "" when it is the tar as a whole.
        reason: a word.
        detail: what was found.
    """

    shard: str
    member: str
    reason: str
    detail: str


def read_index(folder: Path) -> ShardIndex:
    """Read the index of a folder, whose shards need not be there.

    Raises:
        ShardError: when there is none.
    """
    path = folder / INDEX_NAME
    if not path.is_file():
        raise ShardError(f"{folder} has no {INDEX_NAME}; give the folder of a shard set")
    return ShardIndex.from_json(path.read_bytes(), str(path))


def check_shard(folder: Path, shard: ShardFile, index: ShardIndex, taken: dict[str, str]) -> Iterator[Fault]:
    """Yield the faults of one shard.

    Args:
        folder: of the shard set.
        shard: what the index says of it.
        index: whose shapes and precision its samples must have.
        taken: shard of every key that was seen before; those of this one are added.
    """
    path = folder / shard.name
    if path.is_symlink() or not path.is_file():
        yield Fault(shard.name, "", "missing", f"{INDEX_NAME} lists it")
        return
    if path.stat().st_size != shard.n_bytes:
        yield Fault(shard.name, "", "size", f"{path.stat().st_size} bytes, {INDEX_NAME} says {shard.n_bytes}")
    elif sha256_of(path) != shard.sha256:
        yield Fault(shard.name, "", "sha256", f"another one than {INDEX_NAME} says")
    found: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            yield from _members(tar, shard, index, found, taken)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        yield Fault(shard.name, "", "unreadable", str(error))
    for key in sorted(set(shard.keys) - {key for key, name in taken.items() if name == shard.name}):
        yield Fault(shard.name, key, "missing", f"{INDEX_NAME} lists it")


def _members(
    tar: tarfile.TarFile,
    shard: ShardFile,
    index: ShardIndex,
    waiting: dict[str, dict[str, bytes]],
    taken: dict[str, str],
) -> Iterator[Fault]:
    """Yield the faults of the members of one tar, of which at most one sample is in memory."""
    for member in tar:
        key, _, suffix = member.name.partition(".")
        if (fault := _unusable(member, shard, key, suffix)) is not None:
            yield fault
            continue
        if key in taken or suffix in waiting.get(key, {}):
            yield Fault(shard.name, member.name, "duplicate", f"also in {taken.get(key, shard.name)}")
            continue
        stream = tar.extractfile(member)
        waiting.setdefault(key, {})[suffix] = stream.read() if stream is not None else b""
        if len(waiting[key]) == len(SUFFIXES):
            taken[key] = shard.name
            yield from _sample(shard.name, key, waiting.pop(key), index)
    for key, files in waiting.items():
        taken[key] = shard.name
        lacking = next(suffix for suffix in SUFFIXES if suffix not in files)
        yield Fault(shard.name, f"{key}.{lacking}", "missing", "the sample has one file")


def _unusable(member: tarfile.TarInfo, shard: ShardFile, key: str, suffix: str) -> Fault | None:
    """Say why a member is no file of a sample."""
    name = member.name
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
        return Fault(shard.name, name, "unsafe_name", "leads out of the folder")
    if not member.isreg():
        return Fault(shard.name, name, "not_a_file", "a link, folder or device")
    if not is_key(key) or suffix not in SUFFIXES:
        return Fault(shard.name, name, "unknown_member", f"samples are <key>.{' and <key>.'.join(SUFFIXES)}")
    if key not in shard.keys:
        return Fault(shard.name, name, "not_listed", f"{INDEX_NAME} does not list it")
    return None


def _sample(shard: str, key: str, files: dict[str, bytes], index: ShardIndex) -> Iterator[Fault]:
    """Yield what is wrong with one sample."""
    try:
        sample = decode_sample(files, key)
        if not isinstance(sample.meta, dict) or sample.meta.get("key") != key:
            yield Fault(shard, f"{key}.{META_FILE}", "schema", f"it is not of the sample {key}")
            return
        index.check(sample, key)
    except (ShardError, KeyError, TypeError, RecursionError, json.JSONDecodeError) as error:
        yield Fault(shard, key, "schema", str(error))
        return
    for name, tensor in sample.tensors().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            yield Fault(shard, f"{key}.{TENSORS_FILE}", "not_finite", f"{name}; encode it again")


_N_MELS = 64


def draw(sample: PairSample, path: Path, codecs: ClipCodecs | None = None) -> None:
    """Draw one sample as png.

    Args:
        sample: what to draw.
        path: where to write.
        codecs: those that made its latents, to show first, middle and last frame and mels of target and reference.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(9, 10), layout="constrained")
    if codecs is None:
        _draw_latents(figure, sample)
    else:
        _draw_decoded(figure, sample, codecs)
    figure.suptitle(_caption(sample), fontsize=8, ha="left", x=0.02)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
    pyplot.close(figure)


def _caption(sample: PairSample) -> str:
    """Say what the picture shows: pair, lengths, text."""
    meta = sample.meta
    pair = f"{sample.key}: speaker {meta.get('speaker') or '-'}, consent {meta.get('consent') or '-'}, "
    pair += f"target {meta.get('target_key', '-')}, reference {meta.get('reference_key', '-')}"
    lengths = f"{sample.target_video.shape[1]} latent frames of {sample.target_video.shape[2]}x"
    lengths += f"{sample.target_video.shape[3]}, {sample.target_audio.shape[1]} audio tokens, "
    lengths += f"{sample.reference.shape[1]} reference tokens, {int(sample.text.mask.sum())} text tokens"
    prompt = textwrap.fill(str(meta.get("prompt", "-")), 130, max_lines=6)
    # $ would start a formula
    return f"{pair}\n{lengths}\n{prompt}".replace("$", r"\$")


def _draw_latents(figure: Any, sample: PairSample) -> None:
    maps = {
        "target_video (mean over rows and columns)": sample.target_video.float().mean((2, 3)),
        "target_audio": sample.target_audio.float().transpose(1, 2).flatten(0, 1),
        "reference": sample.reference.float().transpose(1, 2).flatten(0, 1),
    }
    for axis, (title, values) in zip(figure.subplots(len(maps), 1), maps.items(), strict=True):
        picture = axis.imshow(values, aspect="auto", interpolation="nearest", cmap="RdBu", vmin=-3, vmax=3)
        axis.set(title=title, xlabel="latent time step", ylabel="channel")
        figure.colorbar(picture, ax=axis)


def _draw_decoded(figure: Any, sample: PairSample, codecs: ClipCodecs) -> None:
    frames = codecs.decode_video(sample.target_video[None].float())[0].cpu()
    grid = figure.add_gridspec(3, 3, height_ratios=(2, 1, 1))
    for column, (title, k) in enumerate({"first": 0, "middle": len(frames) // 2, "last": len(frames) - 1}.items()):
        axis = figure.add_subplot(grid[0, column])
        axis.imshow(frames[k].permute(1, 2, 0).numpy())
        axis.set(title=f"{title} frame ({k})", xticks=[], yticks=[])
    for row, (title, latents) in enumerate({"target": sample.target_audio, "reference": sample.reference}.items(), 1):
        sound = codecs.decode_audio(latents[None].float())[0].float().cpu().mean(0)
        axis = figure.add_subplot(grid[row, :])
        seconds = len(sound) / codecs.sample_rate_hz
        mel = log_mel(sound, codecs.sample_rate_hz)
        axis.imshow(mel, aspect="auto", origin="lower", extent=(0, seconds, 0, _N_MELS))
        axis.set(title=f"{title} sound", xlabel="seconds", ylabel="mel band")


def log_mel(sound: Tensor, sample_rate_hz: int) -> Tensor:
    """Return the log-mel (bands, steps of 10 ms) of a waveform (S,), in decibels."""
    transform = MelSpectrogram(sample_rate_hz, 1024, hop_length=sample_rate_hz // 100, n_mels=_N_MELS)
    return 10 * torch.log10(transform(torch.nan_to_num(sound)).clamp(min=1e-10))
