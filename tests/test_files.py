"""Files of the repository: text ends with a newline, nothing is large, notebooks hold no outputs."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MAX_BYTES = 100_000
ASSETS, GOLDEN = ROOT / "idlora_pl/nano/assets", ROOT / "tests/parity/golden"
"""Weights and golden tensors are packed as they are and may be large."""
MAX_ASSET_BYTES = 10_000_000
BINARY = (".safetensors", ".png")


def tracked() -> list[Path]:
    """Files that people write: everything that git tracks except assets and golden tensors."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and not {ASSETS, GOLDEN} & set(path.parents)]


def test_text_files_end_with_one_newline() -> None:
    texts = [path for path in tracked() if path.suffix not in BINARY and path.stat().st_size]
    ends = {str(path.relative_to(ROOT)): path.read_bytes()[-2:] for path in texts}
    assert [name for name, end in ends.items() if not end.endswith(b"\n") or end == b"\n\n"] == []


def test_no_file_is_large() -> None:
    assert [path for path in tracked() if path.stat().st_size > MAX_BYTES] == []


def test_nano_assets_stay_within_10_mb() -> None:
    assert sum(path.stat().st_size for path in ASSETS.iterdir()) <= MAX_ASSET_BYTES


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_hold_no_outputs(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code, f"{path} has no code"
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.parametrize("name", ["CITATION.cff", ".pre-commit-config.yaml", ".github/workflows/ci.yaml"])
def test_the_yaml_of_the_repository_parses(name: str) -> None:
    assert isinstance(yaml.safe_load((ROOT / name).read_text()), dict)


def test_the_version_is_the_same_everywhere() -> None:
    import idlora_pl

    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == idlora_pl.__version__
    assert f'version = "{idlora_pl.__version__}"' in (ROOT / "pyproject.toml").read_text()


NAMED = r"(?<![\w/.])((?:idlora_pl|data_tools|experiments|benchmarks|tests)/[\w/]+\.(?:py|yaml|md))\b"
RUN = r"python -m ((?:idlora_pl|data_tools|experiments|benchmarks)(?:\.\w+)+)"
RECORDS = {"CHANGELOG.md", "LOG.md", "INSTRUMENTS.md"}
"""They say what was run at the time."""


def test_files_and_modules_that_pages_name_exist() -> None:
    pages = [path for path in [*tracked(), *ASSETS.iterdir()] if path.suffix == ".md" and path.name not in RECORDS]
    wrong = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        modules = [name.replace(".", "/") for name in re.findall(RUN, text)]
        ways = [[f"{name}.py", f"{name}/__main__.py"] for name in modules] + [
            [name] for name in re.findall(NAMED, text)
        ]
        wrong += [f"{page.name}: {way[0]}" for way in ways if not any((ROOT / name).is_file() for name in way)]
    assert len(pages) > 10
    assert wrong == []
