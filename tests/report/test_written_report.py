"""What is written and printed: complete, readable, and playable from its folder."""

import json
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from idlora_pl.report.build import build_table
from idlora_pl.report.formats import to_markdown
from idlora_pl.report.table import Row, Table
from idlora_pl.report.text import to_rich
from idlora_pl.report.write import draw, to_png, write_report
from idlora_pl.results.row import ScoreRow

METRICS = ("speaker_similarity", "phoneme_error_rate")


def scores_in(folder: Path) -> list[ScoreRow]:
    """Two rows of six clips by three speakers; one clip of the second row is silent."""
    scores = []
    for name, base in (("shared", 0.6), ("negative", 0.7)):
        for i in range(6):
            silent = name == "negative" and i == 5
            values = dict.fromkeys(METRICS) if silent else {METRICS[0]: base + i / 100, METRICS[1]: i / 50}
            reasons = dict.fromkeys(METRICS, "silent") if silent else {}
            notes = {
                "clip": str(folder / f"clips/{name}/k {i}.mp4"),
                "reference": str(folder / f"clips/reference/k {i}.mp4"),
                "prompt": "[SPEECH]: <aa & eh>",
            }
            scores.append(ScoreRow(f"k {i}", name, f"s{i % 3}", 0, values, reasons, notes))
    return scores


def make_table(folder: Path) -> Table:
    rows = ["shared", "negative", Row("absent", command="make demo"), Row("paper", {METRICS[0]: 0.9}, "a|b")]
    return build_table(
        scores_in(folder), rows, METRICS, [("negative", "shared")], seconds={"fit": 61.4}, caption="nano"
    )


class Page(HTMLParser):
    """Collects open tags, text and the data of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        held = text.split('type="application/json">')[1].split("</script>")[0]
        self.data = json.loads(held)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_folder_holds_its_files_and_no_drafts(tmp_path: Path) -> None:
    write_report(make_table(tmp_path), scores_in(tmp_path), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "table.json",
        "table.md",
        "table.tex",
        "table.csv",
        "paired.csv",
        "figure.png",
        "index.html",
    }


def test_table_json_comes_back_as_the_table(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    write_report(table, scores_in(tmp_path), tmp_path)
    assert json.loads((tmp_path / "table.json").read_text()) == table.to_dict()


def test_markdown_shows_dashes_counts_sources_and_seconds(tmp_path: Path) -> None:
    text = to_markdown(make_table(tmp_path))
    assert "| absent | – | – | – |" in text
    assert "absent: not measured; run `make demo`" in text
    assert "| paper | *0.900* | – | – |" in text
    assert r"quoted from a\|b" in text
    assert "(5/6)" in text
    assert "Seconds: fit 61" in text
    assert "speaker similarity ↑" in text
    assert "phoneme error rate ↓" in text


def test_the_screen_shows_the_same_numbers(tmp_path: Path) -> None:
    console = Console(width=140, record=True, file=None, quiet=False)
    with console.capture() as shown:
        for part in to_rich(make_table(tmp_path)):
            console.print(part)
    assert all(word in shown.get() for word in ("0.625", "negative - shared", "+0.100", "(5/6)", "make demo"))


def test_the_page_is_whole_and_plays_from_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    write_report(make_table(tmp_path), scores_in(tmp_path), folder)
    page = Page((folder / "index.html").read_text())
    assert page.open == []
    sources = [file["src"] for file in page.data["files"]]
    assert len(sources) == 3 * 6
    assert {(folder / unquote(src)).resolve() for src in sources} == {
        (tmp_path / f"clips/{name}/k {i}.mp4").resolve()
        for name in ("reference", "shared", "negative")
        for i in range(6)
    }


def test_the_page_escapes_text_and_gives_reasons(tmp_path: Path) -> None:
    write_report(make_table(tmp_path), scores_in(tmp_path), tmp_path)
    page = Page((tmp_path / "index.html").read_text())
    assert page.data["items"][0]["prompt"] == "[SPEECH]: <aa & eh>"
    assert page.data["items"][5]["clips"][1]["reasons"] == dict.fromkeys(METRICS, "silent")
    assert "<aa" not in (tmp_path / "index.html").read_text()


def test_the_figure_shows_a_point_for_each_number(tmp_path: Path) -> None:
    figure = draw(make_table(tmp_path))
    panels = figure.get_axes()
    assert [panel.get_title() for panel in panels] == ["speaker similarity ↑", "phoneme error rate ↓"]
    assert [len(panel.containers) for panel in panels] == [3, 2]
    picture = imread(BytesIO(to_png(make_table(tmp_path))))
    assert picture.shape[0] > 300
    assert np.ptp(picture) > 0.9


def test_a_figure_of_rows_with_one_speaker_has_no_bars(tmp_path: Path) -> None:
    one = [score for score in scores_in(tmp_path) if score.speaker == "s0"]
    table = build_table(one, ["shared", "negative"], METRICS)
    assert table.cell("shared", METRICS[0]).ci_low is None
    low, high = draw(table).get_axes()[0].containers[0].get_children()[1:3]
    assert low.get_xdata() == pytest.approx(high.get_xdata())
