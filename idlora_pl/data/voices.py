"""The voices of a shard set, from which training can draw another reference for every target.

    voices.safetensors  the references of the set, each clip once: (V, C, R, M)
    voices.json         whose they are, and whose voice every target has

`python -m idlora_pl.data.voices FOLDER` writes both. Letters: V voices, C channels, R reference audio steps,
M frequency bins.
"""

import argparse
import atexit
import json
import random
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from idlora_pl.data.addresses import is_remote, opened, without_secrets
from idlora_pl.data.samples import PairSample, ShardError
from idlora_pl.data.shards import INDEX_NAME
from idlora_pl.data.stream import ShardSet, open_shards
from idlora_pl.files import replacing

References = Literal["stored", "same_speaker", "cross_video", "cross_environment"]


def both_known(one: str, other: str) -> bool:
    """Say whether two videos, or two environments, are both known: "" stands for one that is not."""
    return bool(one and other)


def known_apart(one: str, other: str) -> bool:
    """Say whether two videos, or two environments, are known to be two; what is unknown may be the same.

    Example:
        >>> known_apart("v1", "v2"), known_apart("v1", ""), known_apart("", "")
        (True, False, False)
    """
    return both_known(one, other) and one != other


@dataclass(frozen=True)
class Voice:
    """Who talks in a clip, and where: `source` is the video that it was cut from; "" where that is unknown."""

    clip: str
    speaker: str
    source: str = ""
    environment: str = ""
    tokens: int | None = None

    @classmethod
    def of(cls, meta: Mapping[str, Any], role: Literal["target", "reference"]) -> "Voice":
        """Read what the `meta` of a sample says of its target or of its reference.

        Raises:
            ShardError: when it does not say who talks, or which clip that is.
        """
        clip = meta.get(f"{role}_key", meta["key"] if role == "target" else None)
        speaker = meta.get("speaker")
        for name, value in ((f"{role}_key", clip), ("speaker", speaker)):
            if not isinstance(value, str) or not value:
                raise ShardError(
                    f"clip {meta['key']} has no {name} in its meta, so no other voice can be drawn for it; "
                    "use data.references stored, or pair the clips with data_tools.pair_clips"
                )
        source, environment = (str(meta.get(f"{role}_{name}") or "") for name in ("source", "environment"))
        return cls(str(clip), str(speaker), source, environment, meta.get(f"{role}_tokens"))

    def may_speak_for(self, target: "Voice", rule: References) -> bool:
        """Say whether a rule lets this clip lend its voice to a target of the same speaker."""
        others = {"same_speaker": (), "cross_video": ("source",), "cross_environment": ("source", "environment")}
        pairs = [(getattr(self, name), getattr(target, name)) for name in others[rule]]
        return self.clip != target.clip and all(known_apart(*pair) for pair in pairs)


@dataclass(frozen=True)
class VoiceBank:
    """The references of a shard set, any of which can be read alone.

    Attributes:
        path: voices.safetensors on disk.
        voices: whose the references are, in their order.
        targets: whose voice every sample has, by key.
        references: clip of the reference of every sample, by key; no other clip is ever drawn.
        shards: checksums of the tars that they are from, by name.
        rule: which of them a target may be given.
        seed: of the draws.
    """

    path: Path
    voices: tuple[Voice, ...]
    targets: Mapping[str, Voice]
    references: Mapping[str, str]
    shards: Mapping[str, str]
    rule: References = "same_speaker"
    seed: int = 0

    @cached_property
    def _by_speaker(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        used = set(self.references.values())
        for number, voice in enumerate(self.voices):
            if voice.clip in used:
                found[voice.speaker].append(number)
        return found

    def of(self, keys: Iterable[str]) -> "VoiceBank":
        """Return the bank of some of the samples: what belongs to others is never drawn."""
        chosen = [key for key in keys if key in self.targets]
        targets = {key: self.targets[key] for key in chosen}
        return replace(self, targets=targets, references={key: self.references[key] for key in chosen})

    def candidates(self, key: str) -> list[int]:
        """Return the numbers of the references that a target may be given."""
        target = self.targets[key]
        return [k for k in self._by_speaker[target.speaker] if self.voices[k].may_speak_for(target, self.rule)]

    def refuse_unserved(self) -> None:
        """Raise ShardError when a target may be given no reference."""
        unserved = [key for key in self.targets if not self.candidates(key)]
        if unserved:
            raise ShardError(
                f"data.references {self.rule} leaves {len(unserved)} of {len(self.targets)} clips without a voice, "
                f"such as {unserved[0]}; their meta must tell another clip of the speaker"
                f"{' and where it is from' if self.rule != 'same_speaker' else ''}; use another rule or stored"
            )

    def redrawn(self, sample: PairSample, epoch: int) -> PairSample:
        """Return a sample with a reference that is a function of seed, epoch and key."""
        draw = random.Random(f"voice {self.seed} {epoch} {sample.key}")
        number = draw.choice(self.candidates(sample.key))
        with safe_open(self.path, "pt") as file:
            reference = file.get_slice("voices")[number]
        chosen = self.voices[number]
        meta = {name: value for name, value in sample.meta.items() if name != "reference_tokens"}
        meta |= {"reference_key": chosen.clip}
        meta |= {} if chosen.tokens is None else {"reference_tokens": chosen.tokens}
        return replace(sample, reference=reference, meta=meta)


FILES = ("voices.safetensors", "voices.json")
_COMMAND = "write it with python -m idlora_pl.data.voices FOLDER"


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
    # the list last: one that names these shards means that the voices beside it are theirs
    with replacing(folder / FILES[1]) as listed, replacing(folder / FILES[0]) as stacked:
        save_file({"voices": torch.stack(references)}, stacked)
        listed.write_text(json.dumps(facts, indent=1) + "\n")
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
