"""Which scorers have proved themselves on this machine: the file that `idlora doctor` writes and scoring reads."""

import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

import idlora_pl
from idlora_pl.scorers.card import Anchor, Card

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
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(partial, self.path)

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
