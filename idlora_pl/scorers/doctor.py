"""What is there to score with: weights, libraries and anchors of every scorer, and how to get what is missing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from idlora_pl.scorers.card import Anchor, Card, MissingLibrary, MissingWeights, UnusableInput, WrongWeights
from idlora_pl.scorers.proof import missing_inputs, prove
from idlora_pl.scorers.verified import VerifiedFile

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
