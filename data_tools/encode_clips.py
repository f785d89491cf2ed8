"""Encode pairs to latents and text features, two files each; pairs that are encoded already are kept."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from data_tools.pairing.pairing import UNUSABLE, common_length, usable_rows
from data_tools.shards.encoding import EncodeClips, Lengths, WriteSamples, group_loader
from data_tools.shards.sample_folder import begin_list, finish_list, keep_settings, sample_exists
from data_tools.verb.command import print_summary, run
from data_tools.verb.ledger import Ledger, opened_ledger, state_of
from data_tools.verb.lists import Row, located, read_rows, relative_to, write_rows
from idlora_pl.distributed import close_at_exit
from idlora_pl.generation.base_model import ClipCodecs, load_codecs, load_text, refuse_missing_checkpoint
from idlora_pl.ltx2.codecs import Codecs
from idlora_pl.ltx2.presets import PresetName, preset_named
from idlora_pl.ltx2.video_codec import Tiling

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def encode_clips(
    pairs: str,
    output: str,
    base: PresetName = "ltx2-19b",
    weights: str | None = None,
    gemma: str | None = None,
    duration: float | None = None,
    reference_duration: float | None = None,
    dtype: Literal["bfloat16", "float32"] = "bfloat16",
    vae_dtype: Literal["preset", "bfloat16", "float32"] = "preset",
    tile: int | None = 512,
    batch_size: int = 4,
    accelerator: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    strategy: str = "auto",
    readers: int = 0,
) -> None:
    """Encode pairs to latents and text features, on one or many CPUs, GPUs and nodes.

    Writes OUTPUT/<key>.latents.safetensors and OUTPUT/<key>.meta.json for every pair, settings.json, samples.jsonl, and
    rejected.jsonl with a reason (too_short, unreadable, reference_too_short, silent, not_finite, unsafe_key,
    duplicate_key, bad_row) for what was left out. A run that was interrupted continues where it stopped, with the same
    bytes. A pair whose clip, voice, prompt or weights changed is encoded again; other settings are refused.

    Args:
        pairs: The list of pair_clips.
        output: The folder to write to.
        base: Base model whose codecs and text encoder are used; "smoke" has random weights, for trying out.
        weights: Its checkpoint, a folder in the layout of a diffusers pipeline or the authors' file.
        gemma: Folder of its language model, when the checkpoint holds none.
        duration: Seconds of every target; by default the length that all clips have.
        reference_duration: Seconds of every voice reference; by default as long as the target.
        dtype: Precision of video latents and text features; audio latents are float32.
        vae_dtype: Precision in which the video VAE computes; by default that of the base.
        tile: Side in pixels of the tiles into which larger frames are cut; null encodes them whole.
        batch_size: Pairs that are encoded together.
        accelerator: What Lightning runs on: auto, cpu or gpu.
        devices: How many of them on each node.
        nodes: How many nodes.
        strategy: How Lightning spreads the work; auto takes ddp for more than one device.
        readers: Processes for each device that read clips.
    """
    check_needs(
        base=base,
        weights=weights,
        gemma=gemma,
        batch_size=batch_size,
        readers=readers,
        tile=tile,
        reference_duration=reference_duration,
        accelerator=accelerator,
        devices=devices,
        nodes=nodes,
        strategy=strategy,
    )
    source, folder, rank = Path(pairs), Path(output), int(getattr(rank_zero_only, "rank", None) or 0)
    rows, refused = usable_rows(source)
    codecs, text = _prepared(load_codecs(base, weights), vae_dtype, tile), load_text(base, weights, gemma=gemma)
    rate_fps = codecs.geometry.video.frame_rate_fps
    n_frames = common_length(rows, duration, rate_fps)
    reference_s = reference_duration or n_frames / rate_fps
    settings = {"base": base, "weights": weights, "duration_s": n_frames / rate_fps}
    settings |= {"reference_duration_s": reference_s, "dtype": dtype, "vae_dtype": vae_dtype, "tile": tile}
    if not rank:
        keep_settings(folder, settings)
    states = input_states(rows, source, settings | {"batch_size": batch_size}, weights, gemma)
    lengths = Lengths(rate_fps, n_frames, reference_s, codecs.geometry.audio.token_seconds)
    with opened_ledger(folder, "encode_clips", {}, rank=rank) as ledger:
        groups = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
        left = [group for group in groups if not all(_is_done(row["key"], folder, ledger, states) for row in group)]
        trainer = _trainer(accelerator, devices, nodes, strategy, [WriteSamples(folder, ledger, states)])
        if left and not rank:
            begin_list(folder, relative_to(folder / "rows", source), states)
        if left:
            module = EncodeClips(codecs, text, n_frames, _DTYPES[dtype])
            trainer.predict(module, group_loader(left, source, lengths, readers), return_predictions=False)
        if trainer.is_global_zero:
            refused += [note for row in rows for note in ledger.find(row["key"], states[row["key"]]) or []]
            left_out = {row["key"] for row in refused if row["reason"] not in UNUSABLE}
            _finish([row["key"] for row in rows if row["key"] not in left_out], refused, source, folder)


def check_needs(
    *,
    base: PresetName,
    weights: str | None,
    gemma: str | None,
    batch_size: int,
    readers: int,
    tile: int | None,
    reference_duration: float | None,
    accelerator: str,
    devices: int,
    nodes: int,
    strategy: str,
    duration: float | None = None,
    **_: object,
) -> None:
    """Raise what encode_clips would raise of its settings, devices and checkpoints, before any of them is loaded."""
    if batch_size < 1 or readers < 0:
        raise ValueError(f"batch_size must be at least 1 and readers at least 0; got {batch_size} and {readers}")
    if reference_duration is not None and not reference_duration > 0:
        raise ValueError(f"reference_duration must be above 0 seconds; got {reference_duration:g}")
    if tile is not None:
        Tiling(tile)
    if devices <= 1 and nodes == 1:
        # more of them would be looked for in every process
        _trainer(accelerator, devices, nodes, strategy, [])
    if duration is not None:
        common_length([{"n_frames": 0}], duration, preset_named(base).geometry.video.frame_rate_fps)
    refuse_missing_checkpoint(base, weights, gemma)


def _prepared(codecs: ClipCodecs, vae_dtype: str, tile: int | None) -> ClipCodecs:
    """Set precision and tiles of the video VAE."""
    if isinstance(codecs, Codecs):
        if vae_dtype != "preset":
            codecs.video.to(_DTYPES[vae_dtype])
        codecs.disable_tiling()
        if tile is not None:
            codecs.enable_tiling(Tiling(tile))
    return codecs


def input_states(
    rows: Sequence[Row], pairs: Path, settings: Row, weights: str | None, gemma: str | None
) -> dict[str, str]:
    """Return for every key a checksum of all that its latents depend on: settings, weights, files, prompt and row."""
    places = [Path(place) for place in (weights, gemma) if place is not None]
    files = [path for place in places for path in ([place] if place.is_file() else sorted(place.rglob("*")))]
    shared = json.dumps([settings, [(str(path), state_of(path)) for path in files]], sort_keys=True)
    states = {}
    for row in rows:
        clips = [state_of(located(pairs, row[name])) for name in ("target", "reference")]
        known = json.dumps([shared, row, clips], sort_keys=True)
        states[row["key"]] = hashlib.sha256(known.encode()).hexdigest()
    return states


def _is_done(key: str, folder: Path, ledger: Ledger, states: dict[str, str]) -> bool:
    noted = ledger.find(key, states[key])
    return noted is not None and (bool(noted) or sample_exists(folder, key))


def _trainer(accelerator: str, devices: int, nodes: int, strategy: str, writers: list[L.Callback]) -> L.Trainer:
    """Return a trainer that only predicts; what is not on this machine is a ValueError."""
    warnings.filterwarnings("ignore", message=".*infer the batch indices.*|.*isinstance.treespec.*")
    warnings.filterwarnings("ignore", message=".*is_fully_executed.*|.*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*returned 0 length.*|.*__len__. defined.*")
    close_at_exit()
    try:
        return L.Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=strategy,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=[RichProgressBar(), *writers],
        )
    except (MisconfigurationException, ImportError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"--accelerator {accelerator} --devices {devices} cannot run here ({reason})") from error


def _finish(kept: list[str], rejected: list[Row], source: Path, folder: Path) -> None:
    """Write the lists of what was encoded and of what was left out, and print the summary."""
    name, listed = relative_to(folder / "rows", source), folder / "rejected.jsonl"
    earlier = read_rows(listed, ()) if listed.is_file() and listed.stat().st_size else []
    others = [row for row in earlier if row.get("pairs") != name]
    write_rows(listed, [*others, *(row | {"pairs": name} for row in rejected)])
    finish_list(folder, name, kept)
    print_summary(f"encode_clips: {len(kept) + len(rejected)} pairs, {folder}", "samples", len(kept), rejected)
    if not kept:
        raise ValueError(f"no pair could be encoded; {listed} has the reasons")


if __name__ == "__main__":
    run(encode_clips)
