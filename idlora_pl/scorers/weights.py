"""Files of weights: where they lie, whether they are the published ones, and how to get them."""

from dataclasses import dataclass
from pathlib import Path

from idlora_pl.files import sha256_of

WEIGHTS = Path("~/.cache/idlora/scorers").expanduser()
"""Default folder of weights."""


class Unavailable(ValueError):
    """A scorer cannot be built here; the message says what is missing and the command that gets it."""


class MissingWeights(Unavailable):
    """A scorer's weights are not there; the message names the file and the command that gets it."""


class MissingLibrary(Unavailable):
    """A package that a scorer uses is not installed; the message names it and the command that gets it."""

    def __init__(self, scorer: str, package: str, command: str) -> None:
        super().__init__(f"scorer {scorer} needs the package {package}; get it with: {command}")
        self.package, self.command = package, command


class WrongWeights(Unavailable):
    """A weights file is not the published one; the message shows both hashes."""


class UnusableInput(ValueError):
    """A file that an anchor is measured on is not what it should be; it proves nothing, neither way."""


SETTINGS = ("*.json", "merges.txt", "vocab.txt")
"""Small files of a snapshot that say how its weights are used."""


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
            raise MissingWeights(f"{found} is missing; get it with: {self.command(weights)}")
        return found

    def command(self, weights: Path) -> str:
        """Return the command that gets the file into a folder of weights."""
        return self.get.replace("WEIGHTS", str(weights))

    def settings(self, weights: Path) -> list[str]:
        """Return name and SHA-256 of the files of settings beside the weights of a snapshot; a file has none."""
        if not self.hashed:
            return []
        folder = self.locate(weights)
        found = {path for pattern in SETTINGS for path in folder.glob(pattern) if path.is_file()}
        return [f"{path.name} {sha256_of(path)}" for path in sorted(found)]

    def digest(self, weights: Path) -> str:
        """Return the SHA-256 of the file that is there.

        Raises:
            MissingWeights: It is not there.
            WrongWeights: It is another file than the published one.
        """
        located = self.locate(weights)
        found = sha256_of(located / self.hashed if self.hashed else located)
        if self.sha256 is not None and not found.startswith(self.sha256):
            raise WrongWeights(
                f"{located} has sha256 {found[:16]}, the published file {self.sha256[:16]}; "
                f"get it again with: {self.command(weights)}"
            )
        return found
