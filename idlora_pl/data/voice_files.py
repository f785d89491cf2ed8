"""All voice references of a shard set in one file, beside its tars.

    voices.safetensors  the references of the set, each clip once: (V, C, R, M)
    voices.json         whose they are, and whose voice every target has

`python -m idlora_pl.data.voice_files FOLDER` writes both. Letters: V voices, C channels, R reference audio steps,
M frequency bins.
"""

import argparse
import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from rich.console import Console
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from idlora_pl.data.addresses import is_remote, opened, without_secrets
from idlora_pl.data.index import INDEX_NAME
from idlora_pl.data.samples import ShardError
from idlora_pl.data.stream import ShardSet, open_shards
from idlora_pl.data.voices import References, Voice, VoiceBank

FILES = ("voices.safetensors", "voices.json")
_COMMAND = "write it with python -m idlora_pl.data.voice_files FOLDER"


def voices_of(found: ShardSet, rule: References, *, seed: int = 0) -> VoiceBank:
    """Return the voices of a shard set; those of a set on disk are written first where they are missing or old.

    Those of a set behind a URL or a command are copied to a temporary folder, which vanishes with the process.

    Raises:
        ShardError: when there are none, they are of other shards, or the rule leaves a target without any.
    """
    if is_remote(found.index_url):
        folder = Path(tempfile.mkdtemp(prefix="voices."))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for name in FILES:
            _fetch(name.join(found.index_url.rsplit(INDEX_NAME, 1)), folder / name)
        bank = read_voices(folder)
    else:
        folder = Path(found.index_url).parent
        there = all((folder / name).is_file() for name in FILES)
        bank = read_voices(folder) if there else write_voices(folder)
        bank = bank if _fits(bank, found) else write_voices(folder)
    if not _fits(bank, found):
        raise ShardError(f"{FILES[1]} is of other shards than {INDEX_NAME} lists; {_COMMAND}")
    bank = replace(bank.of(key for shard in found.index.shards for key in shard.keys), rule=rule, seed=seed)
    bank.refuse_unserved()
    return bank


def _fits(bank: VoiceBank, found: ShardSet) -> bool:
    return all(bank.shards.get(shard.name) == shard.sha256 for shard in found.index.shards)


def _fetch(url: str, path: Path) -> None:
    """Copy a file that webdataset opens."""
    try:
        with opened(url) as stream, open(path, "wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
    except OSError as error:
        raise ShardError(f"{without_secrets(url)} cannot be read ({error}); {_COMMAND} and copy both files") from error


def write_voices(folder: Path) -> VoiceBank:
    """Collect the references of a shard set on disk beside its tars; equal sets give equal bytes.

    Raises:
        ShardError: when a sample cannot be read, or does not tell its voices.
    """
    found = open_shards(str(folder))
    every = [(shard, k) for shard, count in enumerate(found.index.counts) for k in range(count)]
    voices: dict[str, Voice] = {}
    references: list[torch.Tensor] = []
    targets: dict[str, Voice] = {}
    of_sample: dict[str, str] = {}
    for _, sample in found.read(every):
        targets[sample.key] = Voice.of(sample.meta, "target")
        voice = Voice.of(sample.meta, "reference")
        of_sample[sample.key] = voice.clip
        if voice.clip not in voices:
            voices[voice.clip] = voice
            references.append(sample.reference.clone())
    facts = {
        "shards": {shard.name: shard.sha256 for shard in found.index.shards},
        "voices": [asdict(voice) for voice in voices.values()],
        "targets": {key: asdict(voice) for key, voice in targets.items()},
        "references": of_sample,
    }
    with tempfile.TemporaryDirectory(prefix=".voices.", dir=folder) as partial:
        save_file({"voices": torch.stack(references)}, Path(partial, FILES[0]))
        Path(partial, FILES[1]).write_text(json.dumps(facts, indent=1) + "\n")
        for name in FILES:
            os.replace(Path(partial, name), folder / name)
    return read_voices(folder)


def read_voices(folder: Path) -> VoiceBank:
    """Open what `write_voices` wrote.

    Raises:
        ShardError: when it is missing or something else.
    """
    try:
        facts = json.loads((folder / FILES[1]).read_bytes())
        voices = tuple(Voice(**voice) for voice in facts["voices"])
        targets = {key: Voice(**voice) for key, voice in facts["targets"].items()}
        with safe_open(folder / FILES[0], "pt") as file:
            n_voices = file.get_slice("voices").get_shape()[0]
    except FileNotFoundError as error:
        raise ShardError(f"{folder} has no {FILES[1]} and {FILES[0]}; {_COMMAND}") from error
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ShardError(f"{folder / FILES[1]} is not what this version writes ({error}); {_COMMAND}") from error
    if n_voices != len(voices):
        raise ShardError(f"{folder / FILES[0]} has {n_voices} voices, {FILES[1]} lists {len(voices)}; {_COMMAND}")
    return VoiceBank(folder / FILES[0], voices, targets, facts["references"], facts["shards"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Collect the voice references of a shard set beside its tars.")
    parser.add_argument("folder", type=Path, help="folder of a shard set")
    folder = parser.parse_args(arguments).folder
    try:
        bank = write_voices(folder)
    except (ShardError, OSError) as error:
        sys.exit(f"voice_files: {error}")
    speakers = {voice.speaker for voice in bank.voices}
    Console(soft_wrap=True).print(f"{len(bank.voices)} voices of {len(speakers)} speakers in {folder / FILES[0]}")


if __name__ == "__main__":
    main()
