"""The card of a scorer: what it measures, which weights it needs, and the value that proves it.

A scorer is built from its card and a folder of weights, and from nothing else: without the weights there is no
scorer, and never a random one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Literal

from idlora_pl.metrics.clip_mean import ClipMean

Inputs = Path
"""Folder of the public inputs that anchors are measured on."""


class MissingWeights(ValueError):
    """A scorer's weights are not there; the message names the file and the command that gets it."""


class WrongWeights(ValueError):
    """A weights file is not the published one; the message shows both hashes."""


@dataclass(frozen=True)
class WeightFile:
    """One file, or one folder of a snapshot, that a scorer loads.

    Attributes:
        path: Relative to the weights folder.
        sha256: Of the file, in hexadecimal digits; a beginning of at least 8 digits where only that is published;
            None where no hash is published (the hash that is found goes into the rows). For a folder it is the
            hash of the file that `hashed` names.
        get: The exact command that fetches it into the weights folder, which it calls `WEIGHTS`.
        licence: Of the weights.
        hashed: File inside a folder whose hash stands for it, such as `model.safetensors`.
    """

    path: str
    sha256: str | None
    get: str
    licence: str
    hashed: str = ""

    def locate(self, weights: Path) -> Path:
        """Return the file or folder.

        Raises:
            MissingWeights: It is not there.
        """
        found = weights / self.path
        if not (found / self.hashed if self.hashed else found).is_file():
            raise MissingWeights(f"{found} is missing; get it with: {self.get.replace('WEIGHTS', str(weights))}")
        return found

    def digest(self, weights: Path) -> str:
        """Return the SHA-256 of the file that is there.

        Raises:
            MissingWeights: It is not there.
            WrongWeights: It is another file than the published one.
        """
        located = self.locate(weights)
        with open(located / self.hashed if self.hashed else located, "rb") as file:
            found = file_digest(file, "sha256").hexdigest()
        if self.sha256 is not None and not found.startswith(self.sha256):
            raise WrongWeights(
                f"{located} has sha256 {found[:16]}, the published file {self.sha256[:16]}; "
                f"get it again with: {self.get.replace('WEIGHTS', str(weights))}"
            )
        return found


@dataclass(frozen=True)
class Anchor:
    """A public input whose value is known.

    Attributes:
        what: Input, value and source in one sentence.
        expected: Value by name.
        tolerance: Allowed difference by name.
        measure: Measures the same names with the scorer, given the folder of inputs.
        inputs: Files or folders that must be there, relative to the folder of inputs.
        get: How to get the inputs.
    """

    what: str
    expected: Mapping[str, float]
    tolerance: Mapping[str, float]
    measure: Callable[[ClipMean, Inputs], dict[str, float]]
    inputs: tuple[str, ...]
    get: str

    def __post_init__(self) -> None:
        """Refuse a value without tolerance."""
        if self.expected.keys() != self.tolerance.keys() or not self.expected:
            raise ValueError(f"expected and tolerance must name the same values; got {self.expected}, {self.tolerance}")


@dataclass(frozen=True)
class Score:
    """One number that a scorer gives, which is one column of a table.

    Attributes:
        name: In `scores.jsonl`; two scales never share one.
        title: Printed above the column.
        better: Which direction is better; "near zero" for an offset.
        digits: Digits after the point.
        worst: What a clip that could not be scored counts as in means with a penalty; None where no such value
            makes sense.
    """

    name: str
    title: str
    better: Literal["higher", "lower", "near zero"]
    digits: int = 3
    worst: float | None = None


@dataclass(frozen=True)
class Card:
    """A scorer by name.

    Attributes:
        name: What users write: `idlora score --scorers spk_sim,wer`.
        what: One sentence: the measure, the network, against what.
        scores: The numbers that it gives.
        weights: Files that it loads; () for instruments that ship with the package.
        build: Builds it from the folder of weights; imports its libraries only then.
        anchor: The value that proves it; None where none is published.
        packages: Python packages whose versions go into the rows.
        extra: Extra of this package that installs them, such as "eval"; "" when they are core.
        notes: What a user of the number should know: scale, source, deviations.
    """

    name: str
    what: str
    scores: tuple[Score, ...]
    weights: tuple[WeightFile, ...]
    build: Callable[[Path], ClipMean]
    anchor: Anchor | None = None
    packages: tuple[str, ...] = ()
    extra: str = ""
    notes: str = ""

    def load(self, weights: Path) -> ClipMean:
        """Build the scorer after every file was found and has its published hash.

        Raises:
            MissingWeights: A file is not there.
            WrongWeights: A file is another one.
            ValueError: What was built gives other scores than the card says.
        """
        for file in self.weights:
            file.digest(weights)
        metric = self.build(weights)
        if set(metric.names) != {score.name for score in self.scores}:
            raise ValueError(f"scorer {self.name} gives {metric.names}, its card says {[s.name for s in self.scores]}")
        return metric

    def digest(self, weights: Path) -> str:
        """Return one hash for all files of the scorer: that of the file, or of the list of hashes."""
        found = [file.digest(weights) for file in self.weights]
        if len(found) == 1:
            return found[0]
        return sha256(" ".join(found).encode()).hexdigest() if found else "shipped"
