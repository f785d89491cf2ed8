"""Real clips and public checkpoints, which are not part of the repository."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEDIA = Path(os.environ.get("IDLORA_MEDIA", ROOT.parent / "shared" / "media"))


@pytest.fixture(scope="session")
def media() -> Path:
    """The folder of real clips, laid out as `--inputs` expects; tests skip where it is absent."""
    if not MEDIA.is_dir():
        pytest.skip(f"{MEDIA} is not on this machine")
    return MEDIA


@pytest.fixture(scope="session")
def checkpoints(media: Path) -> Path:
    """The folder of small public checkpoints, laid out as `--weights` expects."""
    return media / "checkpoints"
