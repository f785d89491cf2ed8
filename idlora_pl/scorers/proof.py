"""Which scorers can score here and have proved themselves: weights, libraries and anchors, measured and remembered.

An anchor asks whether the scorer gives the value that is known. `idlora doctor` writes the file of what was measured
on this machine, which scoring reads, and says how to get what is missing.
"""

import json
import math
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch

import idlora_pl
from idlora_pl.files import replacing
from idlora_pl.media.clip import MediaError
from idlora_pl.metrics.clip_mean import ClipMean
from idlora_pl.scorers.card import Anchor, Card
from idlora_pl.scorers.weights import MissingLibrary, MissingWeights, UnusableInput, WrongWeights

PACKAGE = Path(idlora_pl.__file__).parent
_CODE = ("scorers", "metrics", "media")
"""Where the code of scorers is; instruments that ship with the package are of the nano world."""
VERIFIED = Path("~/.cache/idlora/verified.json").expanduser()


@dataclass(frozen=True)
class Proof:
    """The outcome of an anchor.

    Attributes:
        passed: Whether every value was within its tolerance.
        found: Value by name.
        message: Why it could not be measured; "" when it was.
    """

    passed: bool
    found: Mapping[str, float]
    message: str = ""


def machine(device: str = "cpu") -> str:
    """Return what a proof is valid on: system, processor, Python, torch and the device that computed."""
    accelerator = torch.cuda.get_device_name() if device == "cuda" else device
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{platform.system()} {platform.machine()} python {python} torch {torch.__version__} {accelerator}"


@cache
def sources_digest(package: Path, parts: tuple[str, ...]) -> str:
    """Return a name for the code in parts of the package, which changes when any line of it does."""
    found = sha256()
    for path in sorted(path for part in parts for path in (package / part).rglob("*.py")):
        found.update(f"{path.relative_to(package).as_posix()}\n".encode() + path.read_bytes())
    return found.hexdigest()[:16]


class VerifiedFile:
    """Outcomes of anchors; a change of scorer, weights, versions, our code, anchor, machine or device starts anew.

    Args:
        path: JSON file; need not exist.
        device: Kind of device that outcomes are of, such as "cpu" or "cuda": networks compute otherwise on another.
        package: Folder of the code.
    """

    def __init__(self, path: Path = VERIFIED, *, device: str = "cpu", package: Path = PACKAGE) -> None:
        self.path, self.device, self.package = path, torch.device(device).type, package

    def proof(self, card: Card, weights: str) -> Proof | None:
        """Return the last outcome of a scorer's anchor with these weights on this machine; None when not run."""
        found = self._read().get(self._identity(card, weights))
        if not isinstance(found, dict) or not isinstance(found.get("found"), dict):
            return None
        return Proof(found.get("passed") is True, found["found"], str(found.get("message", "")))

    def passed(self, card: Card, weights: str) -> bool:
        """Say whether the anchor has passed."""
        proof = self.proof(card, weights)
        return proof is not None and proof.passed

    def record(self, card: Card, weights: str, proof: Proof) -> None:
        """Write an outcome over the earlier one."""
        line = {"passed": proof.passed, "found": dict(proof.found), "message": proof.message}
        about = {"scorer": card.name, "weights": weights, "machine": machine(self.device)}
        about["at"] = time.strftime("%Y-%m-%d %H:%M")
        content = self._read() | {self._identity(card, weights): about | line}
        with replacing(self.path) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n")

    def _read(self) -> dict[str, Any]:
        if not self.path.is_file():
            return {}
        try:
            found = json.loads(self.path.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.path} is not JSON ({error}); remove it and run `idlora doctor` again") from error
        return found if isinstance(found, dict) else {}

    def _identity(self, card: Card, weights: str) -> str:
        versions = json.dumps({"idlora_pl": idlora_pl.__version__} | card.versions(), sort_keys=True)
        code = sources_digest(self.package, (*_CODE, "nano") if card.shipped else _CODE)
        parts = [card.name, weights, machine(self.device), versions, code, anchor_digest(card.anchor)]
        return f"{card.name} {sha256(' | '.join(parts).encode()).hexdigest()[:24]}"


def anchor_digest(anchor: Anchor | None) -> str:
    """Return a name for what an anchor demands, which changes when the demand does."""
    if anchor is None:
        return ""
    demand = json.dumps([anchor.what, sorted(anchor.expected.items()), sorted(anchor.tolerance.items())])
    return sha256(demand.encode()).hexdigest()[:12]


def missing_inputs(anchor: Anchor, inputs: Path | None) -> list[str]:
    """Return the inputs of an anchor that are not in the folder; all of them where there is no folder."""
    return [name for name in anchor.inputs if inputs is None or not (inputs / name).exists()]


def prove(anchor: Anchor, metric: ClipMean, inputs: Path) -> Proof:
    """Measure an anchor whose inputs are there.

    A value that is missing fails it; the message says so. Errors of the scorer itself come through.

    Raises:
        UnusableInput: An input cannot be read or is not what it should be, so nothing is proved.
    """
    try:
        found = anchor.measure(metric, inputs)
    except (MediaError, OSError) as error:
        raise UnusableInput(str(error)) from error
    if missing := sorted(anchor.expected.keys() - found.keys()):
        return Proof(False, found, f"it gave no value for {', '.join(missing)}")
    return Proof(all(_within(anchor, name, found[name]) for name in anchor.expected), found)


def _within(anchor: Anchor, name: str, value: float) -> bool:
    return math.isfinite(value) and abs(value - anchor.expected[name]) <= anchor.tolerance[name]


Weights = Literal["ok", "missing", "other hash", "shipped"]
State = Literal["passed", "failed", "error", "not run", "none"]

CHECK = "idlora doctor --check"
"""What measures an anchor that is not quick, or anew."""


@dataclass(frozen=True)
class Finding:
    """What was found of one scorer.

    Attributes:
        card: The scorer.
        weights: Whether its files are there and are the published ones.
        library: The package that is missing; "" when none is.
        anchor: Whether its anchor has passed on this machine; "error" when the scorer cannot be loaded or ended in an
            error there, "none" when nothing is published to compare with.
        found: What the anchor gave, by name.
        message: Why an anchor failed without a value, or was not run.
        fixes: Commands that get what is missing.
    """

    card: Card
    weights: Weights
    library: str
    anchor: State
    found: dict[str, float]
    message: str
    fixes: tuple[str, ...]

    def compared(self) -> list[str]:
        """Return one line for each value of the anchor: found, expected, tolerance."""
        anchor = self.card.anchor
        if anchor is None:
            return []
        return [
            f"{name} {self.found[name]:.6g}, expected {value:.6g} +- {anchor.tolerance[name]:.3g}"
            if name in self.found
            else f"{name} expected {value:.6g} +- {anchor.tolerance[name]:.3g}"
            for name, value in anchor.expected.items()
        ]


def examine(
    cards: Iterable[Card],
    weights: Path,
    inputs: Path | None,
    proofs: VerifiedFile,
    *,
    run: Literal["all", "quick", "never"] = "quick",
) -> list[Finding]:
    """Look at scorers, and run the anchors whose weights and inputs are there.

    Args:
        cards: The scorers.
        weights: Folder of weights.
        inputs: Folder of anchor inputs; None where there is none.
        proofs: Where outcomes are kept, and the device that they are of.
        run: "all" measures every anchor anew, "quick" those that are quick and were not measured yet.
    """
    return [_finding(card, weights, inputs, proofs, run) for card in cards]


def _finding(card: Card, weights: Path, inputs: Path | None, proofs: VerifiedFile, run: str) -> Finding:
    state, library, fixes = _parts(card, weights)
    anchor = card.anchor
    if anchor is None:
        why = "no value is published for it, so its scores stay unverified"
        return Finding(card, state, library, "none", {}, why, tuple(fixes))
    if fixes:
        missing = [_inputs_command(anchor, inputs)] if missing_inputs(anchor, inputs) else []
        return Finding(card, state, library, "not run", {}, "", (*fixes, *missing))
    digest = card.digest(weights)
    proof = proofs.proof(card, digest)
    absent = missing_inputs(anchor, inputs)
    if not absent and (run == "all" or (run == "quick" and anchor.quick and proof is None)):
        try:
            proof = prove(anchor, card.load(weights).to(proofs.device), inputs or Path())
        except UnusableInput as error:
            why = f"an input cannot be used: {error}"
            return Finding(card, state, library, "not run", {}, why, (_inputs_command(anchor, inputs), CHECK))
        except Exception as error:  # one scorer that fails must not hide the others
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return Finding(card, state, library, "error", {}, why, (CHECK,))
        proofs.record(card, digest, proof)
    if proof is not None:
        verdict: State = "passed" if proof.passed else "failed"
        again = () if proof.passed else (CHECK,)
        return Finding(card, state, library, verdict, dict(proof.found), proof.message, again)
    why, needed = _waiting(anchor, absent, inputs)
    return Finding(card, state, library, "not run", {}, why, needed)


def _waiting(anchor: Anchor, absent: Sequence[str], inputs: Path | None) -> tuple[str, tuple[str, ...]]:
    if absent:
        return f"input {absent[0]} is missing", (_inputs_command(anchor, inputs),)
    return "takes a while", (CHECK,)


def _inputs_command(anchor: Anchor, inputs: Path | None) -> str:
    """Return the command that gets the inputs of an anchor into the folder that holds them."""
    return "input: " + (anchor.get if inputs is None else anchor.get.replace("INPUTS", str(inputs)))


def _parts(card: Card, weights: Path) -> tuple[Weights, str, list[str]]:
    """Return the state of the weights, the missing library, and the commands that get what is missing."""
    state: Weights = "ok" if card.weights else "shipped"
    fixes: list[str] = []
    for file in card.weights:
        try:
            file.digest(weights)
        except (MissingWeights, WrongWeights) as error:
            state = "missing" if isinstance(error, MissingWeights) else "other hash"
            # the files of one archive share their command
            if (command := file.command(weights)) not in fixes:
                fixes.append(command)
    try:
        card.versions(required=True)
    except MissingLibrary as error:
        return state, error.package, [*fixes, error.command]
    return state, "", fixes
