"""The card of a scorer: what it measures, which weights it needs, and the value that proves it.

A scorer is built from its card and a folder of weights, and from nothing else: without the weights there is no
scorer, and never a random one. Weights are the published ones or are refused, and their card says how to get them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from idlora_pl.files import sha256_of
from idlora_pl.metrics.clip_mean import ClipMean
from idlora_pl.scorers.scores import Score
from idlora_pl.scorers.weights import (
    MissingLibrary,
    MissingWeights,
    Unavailable,
    UnusableInput,
    WeightFile,
    WrongWeights,
)

__all__ = [
    "Anchor",
    "Card",
    "Inputs",
    "MissingLibrary",
    "MissingWeights",
    "Unavailable",
    "UnusableInput",
    "WeightFile",
    "WrongWeights",
]

Inputs = Path
"""Folder of the public inputs that anchors are measured on."""


@dataclass(frozen=True)
class Anchor:
    """A public input whose value is known.

    Attributes:
        what: Input, value and source in one sentence.
        expected: Value by name.
        tolerance: Allowed difference by name.
        measure: Measures the same names with the scorer, given the folder of inputs; raises `UnusableInput` where
            one is not what it should be.
        inputs: Files or folders that must be there, relative to the folder of inputs.
        get: How to get the inputs.
        quick: Whether `measure` takes less than about ten seconds on one core; `idlora doctor` then needs no
            `--check` to run it.
    """

    what: str
    expected: Mapping[str, float]
    tolerance: Mapping[str, float]
    measure: Callable[[ClipMean, Inputs], dict[str, float]]
    inputs: tuple[str, ...]
    get: str
    quick: bool = False

    def __post_init__(self) -> None:
        """Refuse a value without tolerance."""
        if self.expected.keys() != self.tolerance.keys() or not self.expected:
            raise ValueError(f"expected and tolerance must name the same values; got {self.expected}, {self.tolerance}")


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
        shipped: Files of weights that come with the package.
        needs_target: Whether it looks at the real clip, which takes time and memory to read.
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
    shipped: tuple[Path, ...] = ()
    needs_target: bool = True

    def load(self, weights: Path) -> ClipMean:
        """Build the scorer after every file was found and has its published hash.

        Raises:
            MissingWeights: A file is not there.
            WrongWeights: A file is another one.
            MissingLibrary: A package is not installed.
            ValueError: What was built gives other scores than the card says.
        """
        for file in self.weights:
            file.digest(weights)
        self.versions(required=True)
        metric = self.build(weights)
        if set(metric.names) != {score.name for score in self.scores}:
            raise ValueError(f"scorer {self.name} gives {metric.names}, its card says {[s.name for s in self.scores]}")
        if set(metric.distances) != (near_zero := {score.name for score in self.scores if score.better == "near zero"}):
            raise ValueError(f"scorer {self.name} averages the size of {metric.distances}, its card says {near_zero}")
        return metric

    def digest(self, weights: Path) -> str:
        """Return one hash for all files of the scorer: that of the file, or of the list of hashes.

        The settings of snapshots count among the files, since they decide what a network sees.
        """
        found = [file.digest(weights) for file in self.weights] + [sha256_of(path) for path in self.shipped]
        found += [line for file in self.weights for line in file.settings(weights)]
        if len(found) == 1:
            return found[0]
        return sha256(" ".join(found).encode()).hexdigest() if found else "none"

    def versions(self, *, required: bool = False) -> dict[str, str]:
        """Return the versions of the packages that it uses; without `required`, a missing one is left out.

        Raises:
            MissingLibrary: A package is not installed and required.
        """
        found: dict[str, str] = {}
        for name in self.packages:
            try:
                found[name] = version(name)
            except PackageNotFoundError as error:
                if required:
                    wanted = f"'idlora_pl[{self.extra}]'" if self.extra else name
                    raise MissingLibrary(self.name, name, f"pip install {wanted}") from error
        return found
