"""Every notebook runs from top to bottom; that their outputs are stripped is checked in test_files.py."""

import json
from pathlib import Path

import matplotlib
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    matplotlib.use("Agg")
    from matplotlib import pyplot

    namespace: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(json.loads(path.read_text())["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), namespace)
    pyplot.close("all")


def test_notebooks_are_what_jupyter_reads() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{number:02d}" for number in range(1, len(NOTEBOOKS) + 1)]
    for path in NOTEBOOKS:
        content = json.loads(path.read_text())
        assert (content["nbformat"], content["metadata"]["kernelspec"]["language"]) == (4, "python")
        assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
        assert all(cell["cell_type"] in ("code", "markdown") for cell in content["cells"])
