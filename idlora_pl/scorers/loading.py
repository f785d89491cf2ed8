"""Scorers by name, ready to score: built from their weights, with what a row has to say about them."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from idlora_pl.metrics.clip_mean import ClipMean
from idlora_pl.results.row import ScorerFacts
from idlora_pl.scorers.card import Card
from idlora_pl.scorers.nano import CARDS as NANO
from idlora_pl.scorers.proof import VERIFIED, VerifiedFile, missing_inputs, prove
from idlora_pl.scorers.registry import CARDS, card_named
from idlora_pl.scorers.weights import WEIGHTS, Unavailable

PAPER = {"spk_sim_idlora", "face_sim", "lse_d", "clap_environment", "wer"}
"""One score of each scorer that the columns of the paper's tables need."""


@dataclass(frozen=True)
class Scorer:
    """A scorer that can score.

    Attributes:
        name: Of its card.
        metric: What scores.
        facts: What rows say about it.
        needs_target: Whether it looks at the real clip.
    """

    name: str
    metric: ClipMean
    facts: ScorerFacts
    needs_target: bool = True


def device_here(name: str) -> str:
    """Return the kind of a device that is on this machine.

    Raises:
        ValueError: There is none of this name.
    """
    try:
        return torch.empty(0, device=name).device.type
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"--device {name} is not here ({str(error).splitlines()[0]}); leave it out for cpu") from error


def names_of(chosen: str | Sequence[str], weights: Path = WEIGHTS) -> list[str]:
    """Return names of scorers.

    Args:
        chosen: Names, or one text of names between commas. "nano" stands for the instruments of the nano world,
            "paper" for the scorers of the paper's columns, "available" for every scorer outside the nano world whose
            weights and libraries are here.
        weights: Folder of weights, for "available".

    Raises:
        ValueError: A name is unknown, or nothing is available.
    """
    listed = chosen.split(",") if isinstance(chosen, str) else list(chosen)
    found: list[str] = []
    for name in (name.strip() for name in listed):
        if name == "nano":
            found += [card.name for card in NANO]
        elif name == "paper":
            found += [card.name for card in CARDS.values() if {score.name for score in card.scores} & PAPER]
        elif name == "available":
            found += available(weights)
        else:
            found.append(card_named(name).name)
    if not found:
        raise ValueError(f"no scorer is available with the weights in {weights}; `idlora doctor` says how to get them")
    return list(dict.fromkeys(found))


def available(weights: Path = WEIGHTS) -> list[str]:
    """Return the scorers, other than those of the nano world, whose weights and libraries are here."""
    found = []
    for card in CARDS.values():
        if card in NANO:
            continue
        try:
            card.digest(weights)
            card.versions(required=True)
        except Unavailable:
            continue
        found.append(card.name)
    return found


def load_scorers(
    names: str | Sequence[str],
    weights: Path | str = WEIGHTS,
    verified: Path | str | None = None,
    *,
    inputs: Path | None = None,
    device: str = "cpu",
) -> tuple[Scorer, ...]:
    """Build scorers by name; those whose anchor is quick and has its inputs prove themselves if they have not yet.

    A scorer that will score on another device than the CPU counts as verified when its anchor has passed there.

    Args:
        names: As in `names_of`.
        weights: Folder of weights.
        verified: File of proofs; None takes the one of the user.
        inputs: Folder of anchor inputs.
        device: Where they will score.

    Raises:
        Unavailable: Weights or a library of any of them are missing; the message has the command for each.
        ValueError: A name is unknown, or two scorers give the same score.
    """
    folder = Path(weights).expanduser()
    cards = [card_named(name) for name in names_of(names, folder)]
    refuse_unavailable(cards, folder)
    given = [(score.name, card.name) for card in cards for score in card.scores]
    for name in {name for name, _ in given}:
        if len(makers := [maker for score, maker in given if score == name]) > 1:
            raise ValueError(f"scorers {' and '.join(makers)} both give {name}; choose one of them")
    proofs = VerifiedFile(VERIFIED if verified is None else Path(verified).expanduser(), device=device)
    return tuple(_loaded(card, folder, proofs, inputs) for card in cards)


def refuse_unavailable(cards: Sequence[Card], weights: Path) -> None:
    """Raise Unavailable with everything that is missing for any of the scorers."""
    missing: list[str] = []
    for card in cards:
        try:
            card.digest(weights)
            card.versions(required=True)
        except Unavailable as error:
            missing.append(f"{card.name}: {error}")
    if missing:
        raise Unavailable("; ".join(missing))


def _loaded(card: Card, weights: Path, proofs: VerifiedFile, inputs: Path | None) -> Scorer:
    metric = card.load(weights)
    digest = card.digest(weights)
    anchor = card.anchor
    unproved = proofs.proof(card, digest) is None
    if anchor is not None and anchor.quick and unproved and not missing_inputs(anchor, inputs):
        # what cannot be measured stays unverified, and `idlora doctor` says why
        with contextlib.suppress(Exception):
            proofs.record(card, digest, prove(anchor, metric.to(proofs.device), inputs or weights))
    versions = {"torch": torch.__version__} | card.versions()
    facts = ScorerFacts(tuple(s.name for s in card.scores), digest, proofs.passed(card, digest), versions)
    return Scorer(card.name, metric, facts, card.needs_target)
