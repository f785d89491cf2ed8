"""What the README says is true: its example runs, and its paths, links and commands exist."""

import re
from pathlib import Path

import pytest

from idlora_pl.media.reading import probe, read_metadata
from idlora_pl.media.writing import AI_GENERATED_LABEL
from idlora_pl.nano.codecs import ASSETS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "experiments/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def block(language: str, containing: str) -> str:
    """The first code block of a language ("" for none) that contains a text."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    return next(text for name, text in found if name == language and containing in text)


def test_the_adapter_of_the_example_is_shipped() -> None:
    assert (ASSETS / "adapter.safetensors").is_file()


def test_the_example_runs_and_its_comments_are_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = block("python", "write_clip")
    assert len([line for line in source.splitlines() if line.strip()]) <= 12
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(source, "README.md", "exec"), names)
    shapes = {str(tuple(part.shape)) for part in (names["clip"].frames, names["clip"].waveform)}
    shown = set(re.findall(r"\(\d[\d, ]*\)", source))
    assert shapes <= shown
    assert shown - shapes == {"(3, 64, 64)"}
    assert probe("talk.mp4").size == (256, 256)
    assert AI_GENERATED_LABEL in read_metadata("talk.mp4")["comment"]


def test_what_the_tree_names_is_there() -> None:
    paths = [line.split()[0] for line in block("", "idlora_pl/method/").splitlines() if line.strip()]
    assert len(paths) == 20
    assert [path for path in paths if not (ROOT / path).is_dir()] == []


def test_the_targets_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"(?:^|`)make ([a-z][a-z-]+)", page.read_text(), flags=re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"{page.name}: make {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
