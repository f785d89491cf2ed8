"""Turn the authors' preprocessed data into shards: read everything, check everything, drop nothing silently."""

from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from data_tools.released.importing import INPUT_NAME, OPTIONS_NAME, Import, Packing
from data_tools.released.layout import ReferenceFolder, list_folder, metadata_places
from data_tools.released.metadata import Fields, read_metadata
from data_tools.released.passes import Input, fingerprint, opened_work
from data_tools.released.plan import Lengths, Precision, Rules
from data_tools.verb.command import run
from data_tools.verb.parallel import available_cores
from idlora_pl.data.shards import sha256_of
from idlora_pl.ltx2.presets import PresetName


def import_released(
    folder: str,
    output: str | None = None,
    lengths: Lengths = "cut",
    target_tokens: int | None = None,
    reference_tokens: int | None = None,
    target_range: str | None = None,
    reference_range: str | None = None,
    base: PresetName | None = None,
    grid: str | None = None,
    fps_tolerance: float = 0.05,
    missing_fps: float | None = None,
    precision: Precision = "refuse",
    reference_folder: ReferenceFolder | None = None,
    metadata: str | None = None,
    video_field: str = "media_path",
    caption_field: str = "caption",
    reference_field: str = "reference_path",
    speaker_field: str = "speaker",
    consent: str = "unknown",
    samples_per_shard: int = 256,
    seed: int = 0,
    workers: int | None = None,
    max_rejected: int | None = None,
) -> None:
    """Turn the authors' preprocessed data into a shard set.

    Reads latents, audio_latents, reference_audio_latents (or audio_latents_clean) and conditions, as folders of .pt
    files or in .tar.zst archives. Every item is written or listed in OUTPUT/rejected.jsonl with a reason. A run that
    was interrupted continues; equal input and options give equal bytes.

    Args:
        folder: What holds the folders or the archives, or the parent of a `.precomputed` or `precomputed` folder.
        output: A new folder: pairs-000000.tar, ..., index.json and rejected.jsonl.
        lengths: Sounds of different lengths are cut at their end ("cut"), put into a set for every pair of lengths,
            OUTPUT/t121-r122 ("split"), or padded with zeros at their end ("pad", as the authors' trainer does).
        target_tokens: Audio tokens of every target; by default the fewest (cut) or the most (pad) that are there.
        reference_tokens: Audio tokens of every voice reference, likewise.
        target_range: Audio tokens that targets may have, such as 120-122; by default one more or less than the frames
            need, which is that for 121 frames.
        reference_range: Audio tokens that voice references may have, likewise.
        base: Base model of the latents; by default the one that reads text features of these widths.
        grid: Latent frames x rows x columns of the set, such as 16x16x16; by default those that the most items have.
        fps_tolerance: How far the frame rate of an item may lie from that of the base.
        missing_fps: Frame rate of files that say none (the authors' trainer takes 24); by default they are refused.
        precision: Whether sounds that are not float32 and others that are not bfloat16 are refused or converted.
        reference_folder: Which folder holds the voices, where both are there.
        metadata: The metadata.jsonl; by default it is looked for, "none" uses none.
        video_field: Its field with the path of the target, which names the item.
        caption_field: Its field with the prompt.
        reference_field: Its field with the path of the voice reference.
        speaker_field: Its field with the speaker.
        consent: Under which terms people are shown, noted in index.json: see docs/responsible_use.md.
        samples_per_shard: How many samples one tar file holds.
        seed: Samples of plain folders are put into an order drawn with this seed; those of archives keep theirs.
        workers: Processes; by default one for every core.
        max_rejected: End with status 1 before anything is written when more is refused.
    """
    rules = Rules(lengths, target_tokens, reference_tokens, target_range, reference_range)
    rules = replace(rules, base=base, grid=grid, fps_tolerance=fps_tolerance, missing_fps=missing_fps)
    rules = replace(rules, precision=precision)
    fields = Fields(video_field, caption_field, reference_field, speaker_field)
    packing = Packing(consent, samples_per_shard, seed, max_rejected)
    n_workers = workers or available_cores()
    _run(Path(folder), output, rules, fields, packing, reference_folder, metadata, n_workers)


def _run(
    folder: Path,
    output: str | None,
    rules: Rules,
    fields: Fields,
    packing: Packing,
    reference_folder: ReferenceFolder | None,
    metadata: str | None,
    n_workers: int,
) -> None:
    """Open the input and the work folder, and import."""
    if output is None:
        raise ValueError("the shards need a place; give --output FOLDER")
    listing = list_folder(folder, reference_folder)
    rows, rows_path = read_metadata(metadata, metadata_places(folder, listing.root), fields)
    console = Console()
    console.print(f"prompts and speakers from {rows_path}" if rows_path else "no metadata.jsonl, so no prompts")
    known = {"input": fingerprint(listing), "metadata": rows_path and sha256_of(rows_path)}
    with opened_work(Path(output)) as work:
        work.remember(INPUT_NAME, {"input files (checksum)": known["input"], "reference_folder": reference_folder})
        options = asdict(rules) | asdict(fields) | asdict(packing) | {"metadata": known["metadata"]}
        work.remember(OPTIONS_NAME, {name: value for name, value in options.items() if name != "max_rejected"})
        Import(Input(listing, reference_folder, n_workers), rules, packing, rows, work).run(console)


if __name__ == "__main__":
    run(import_released)
