"""Fixtures of scoring: loaded nano scorers, items of three nano speakers, and a place for proofs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from idlora_pl.benchmark.items import read_prompts
from idlora_pl.nano.dataset import write_test_items
from idlora_pl.scorers.loading import Scorer, load_scorers


@pytest.fixture(scope="session")
def proofs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of proofs that is not the user's."""
    return tmp_path_factory.mktemp("proofs") / "verified.json"


@pytest.fixture(scope="session")
def scorers(proofs: Path) -> tuple[Scorer, ...]:
    """The instruments of the nano world."""
    return load_scorers("nano", verified=proofs)


@pytest.fixture(scope="session")
def nano_manifest(nano_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of three nano items of three speakers; a method has clips of two of them."""
    folder = tmp_path_factory.mktemp("manifest")
    write_test_items(folder / "third", "test", 1, offset=2)
    entries = read_prompts(nano_data / "test/prompts.json")
    (third,) = read_prompts(folder / "third/prompts.json")
    entries.append(replace(third, id="item-0002"))
    items = [
        {
            "id": entry.id,
            "split": "nano",
            "speaker": entry.speaker,
            "reference": str(entry.reference),
            "compare": str(entry.compare),
            "target": str(entry.target),
            "prompt": entry.prompt,
            "environment": entry.environment,
            "clips": {} if entry.id == "item-0002" else {"real": str(entry.target)},
        }
        for entry in entries
    ]
    path = folder / "nano.json"
    path.write_text(json.dumps({"format": "idlora-benchmark-1", "name": "nano", "items": items}))
    return path
