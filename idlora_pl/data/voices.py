"""The voices of a shard set, from which training can draw another reference for every target.

Letters: C channels, R reference audio steps, M frequency bins.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from safetensors import safe_open

from idlora_pl.data.samples import PairSample, ShardError

References = Literal["stored", "same_speaker", "cross_video", "cross_environment"]


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
        return self.clip != target.clip and all(one and other and one != other for one, other in pairs)


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
