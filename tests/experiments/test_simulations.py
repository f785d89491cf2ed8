"""The simulations of intervals run, print every case, and repeat themselves; their numbers stand in the docs."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("simulate_intervals", ROOT / "experiments/simulate_intervals.py")
simulated = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(simulated)


@pytest.mark.parametrize("part", simulated.PARTS)
def test_every_part_prints_shares_and_repeats_itself(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = {"studies": 4, "lags": 1}.get(part, 2)
    simulated.main(trials=trials, seed=3, only=part, output=tmp_path / "first.md")
    simulated.main(trials=trials, seed=3, only=part, output=tmp_path / "second.md")
    text = (tmp_path / "first.md").read_text()
    assert text == (tmp_path / "second.md").read_text()
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    assert all(0 <= float(value) <= 1 for line in lines for value in line[-2:])
    assert len({len(line) for line in lines}) == 1
    capsys.readouterr()


def test_rows_that_are_alike_differ_symmetrically_and_around_zero() -> None:
    rng = np.random.default_rng(0)
    for shape in simulated.SHAPES:
        gaps = simulated.differences(rng, shape, (1,) * 20_000)
        assert abs(np.median(gaps)) < 0.05
    skewed = simulated.differences(rng, "skewed", (1,) * 20_000)
    assert abs(skewed.mean()) < 0.1
    assert np.median(skewed) < -0.3


def tables_of(path: str) -> list[list[list[str]]]:
    """Return the tables of a page as cells."""
    blocks, lines = [], (ROOT / path).read_text().splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("|"):
            if not before.startswith("|"):
                blocks.append([])
            blocks[-1].append([cell.strip() for cell in line.strip("|").split("|")])
    return blocks


def numbers(cells: list[str]) -> list[float]:
    return [float(cell) for cell in cells if cell.replace(".", "", 1).isdigit() and "." in cell]


def test_the_docs_promise_no_more_than_their_numbers() -> None:
    means = next(
        found for found in tables_of("docs/scoring.md") if found[0][0] == "speakers x clips" and found[0][1] == "2 x 4"
    )
    normal = next(numbers(row) for row in means if row[0] == "normal")
    assert len(normal) == len(simulated.LAYOUTS)
    assert min(normal) >= 0.95 - 3 * 0.005
    findings = next(found for found in tables_of("docs/scoring.md") if found[0][:2] == ["speakers", "2"])
    for row in findings[2:-1]:
        assert max(numbers(row)) <= 0.05 + 3 * 0.005, row[0]
    assert "skewed" in findings[-1][0]
    studies = next(found for found in tables_of("docs/studies.md") if found[0][0] == "items x raters")
    for row in studies[2:]:
        assert min(numbers(row)[:3]) >= 0.95 - 0.025, row
        assert max(numbers(row)[3:]) <= 0.05 + 0.025, row


@pytest.mark.slow
def test_findings_are_as_rarely_wrong_as_the_docs_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulated.main(trials=500, seed=1, only="findings", output=tmp_path / "found.md")
    lines = [line.strip("| ").split(" | ") for line in (tmp_path / "found.md").read_text().splitlines() if "0." in line]
    # 500 trials: three standard errors are 0.03
    assert all(float(value) <= 0.08 for line in lines for value in line[1:-1])
    capsys.readouterr()
