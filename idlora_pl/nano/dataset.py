"""Data sets of the nano world on disk: training shards, and test items as the files that a user would bring.

`python -m idlora_pl.nano.dataset OUTPUT` writes

    train/ validation/        shard sets of (target, reference, text)
    test/prompts.json         what to generate: prompt, reference_path, first_frame_path, output_name, ...
    test/<name>/              voice.wav (reference), face.png (first frame), other.wav (a third clip of the
                              speaker, which scores compare with), real.mp4 (the real target clip)

Speakers of the three splits are disjoint; the clips of a speaker differ from each other in words, timing and place.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from idlora_pl.data.samples import PairSample
from idlora_pl.data.shards import write_shards
from idlora_pl.files import replacing, replacing_folder
from idlora_pl.media.clip import Clip
from idlora_pl.media.writing import write_audio, write_clip, write_image
from idlora_pl.method.tokens import TextFeatures
from idlora_pl.nano.corpus import Corpus, Item, build_corpus, split_seed
from idlora_pl.nano.render import render
from idlora_pl.nano.world import FRAME_RATE_FPS, SAMPLE_RATE_HZ, Script, script, speaker

_SCRIPTS_PER_SPEAKER = 8

CONSENT = "not needed: synthetic faces and voices"


def scripts_of(who: int, n_clips: int) -> list[Script]:
    """Return the scripts of a speaker's clips, no two with the same words or in the same place."""
    scripts: list[Script] = []
    for index in range(n_clips):
        scripts.append(script(who * _SCRIPTS_PER_SPEAKER + index, avoid=scripts))
    return scripts


def write_pairs(folder: Path, split: str, n_speakers: int, *, offset: int = 0) -> None:
    """Render two clips of each speaker and write both orders (target, reference) as a shard set."""
    seeds = [split_seed(split, offset + index) for index in range(n_speakers)]
    both = [(who, what) for who in seeds for what in scripts_of(who, 2)]
    clips = build_corpus(both, label=f"rendering {split} pairs")
    settings = {"split": split, "consent": CONSENT}
    write_shards(_pairs(clips, both), folder, samples_per_shard=512, codecs="nano", settings=settings)


def _pairs(clips: Corpus, items: Sequence[Item]) -> Iterator[PairSample]:
    mask = torch.ones(clips.text.shape[1], dtype=torch.bool)
    for index, (who, what) in enumerate(items):
        number = index % 2
        other = index + 1 - 2 * number
        text = TextFeatures(clips.text[index], clips.text[index], mask)
        meta = {"key": f"s{who:07d}-{number}", "speaker": f"s{who:07d}", "prompt": what.prompt}
        yield PairSample(clips.video[index], clips.audio[index, :, :33], clips.audio[other], text, meta)


def write_test_items(folder: Path, split: str, n_speakers: int, *, offset: int = 0) -> None:
    """Write test items of unseen speakers as media files with a prompts.json beside them."""
    entries = []
    for index in track(range(n_speakers), description=f"writing {split} items"):
        entries.append(_test_item(folder, split_seed(split, offset + index), index))
    with replacing(folder / "prompts.json") as partial:
        partial.write_text(json.dumps(entries, indent=1) + "\n")


def _test_item(folder: Path, who: int, index: int) -> dict[str, Any]:
    name, person = f"item-{index:04d}", speaker(who)
    target, reference, other = scripts_of(who, 3)
    clips = render([person], [target])
    voices = render([person] * 2, [reference, other], video=False).waveform
    write_audio(voices[:1], folder / name / "voice.wav", SAMPLE_RATE_HZ)
    write_audio(voices[1:], folder / name / "other.wav", SAMPLE_RATE_HZ)
    write_image(clips.frames[0, 0], folder / name / "face.png")
    real = Clip(clips.frames[0], clips.waveform, FRAME_RATE_FPS, SAMPLE_RATE_HZ)
    write_clip(real, folder / name / "real.mp4", scale=4, generated=False)
    files = {"reference_path": "voice.wav", "first_frame_path": "face.png", "compare_path": "other.wav"}
    paths = {key: f"{name}/{file}" for key, file in (files | {"target_path": "real.mp4"}).items()}
    about = {
        "prompt": target.prompt,
        "output_name": name,
        "environment": target.environment,
        "reference_speech": " ".join(reference.words),
        "speaker": f"s{who:07d}",
        "seed": 42 + index,
    }
    return about | paths


def main(arguments: list[str] | None = None) -> None:
    """Write a whole data set from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--train_speakers", "--train-speakers", type=int, default=1500)
    parser.add_argument("--validation_speakers", "--validation-speakers", type=int, default=32)
    parser.add_argument("--test_speakers", "--test-speakers", type=int, default=96)
    parser.add_argument(
        "--test_split", "--test-split", choices=["validation", "test"], default="test", help="whose speakers are tested"
    )
    options = parser.parse_args(arguments)
    if options.output.exists() and any(options.output.iterdir()):
        sys.exit(f"{options.output} already holds something; remove it or choose another folder")
    with replacing_folder(options.output) as partial:
        write_pairs(partial / "train", "train", options.train_speakers)
        write_pairs(partial / "validation", "validation", options.validation_speakers)
        offset = options.validation_speakers
        write_test_items(partial / "test", options.test_split, options.test_speakers, offset=offset)


if __name__ == "__main__":
    main()
