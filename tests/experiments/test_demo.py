"""The end of the demo: its table, and the page that `idlora table --html` writes."""

import pytest
import torch

from experiments import demo
from experiments.demo import FULL, report
from idlora_pl.media.clip import Clip
from idlora_pl.media.writing import write_clip
from idlora_pl.results.row import ScorerFacts, ScoreRow
from idlora_pl.results.scores_file import append_scores


@pytest.mark.slow
def test_the_page_shows_the_sound_of_every_clip(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "ROWS", ("real",))
    monkeypatch.setattr(demo, "PAIRED", ())
    monkeypatch.setattr(demo, "CLAIMS", ())
    tone = 0.3 * torch.sin(torch.arange(16000) * 0.2)[None]
    write_clip(Clip(torch.zeros(25, 3, 64, 64, dtype=torch.uint8), tone, 25.0, 16000), tmp_path / "a.mp4")
    values = dict.fromkeys(demo.METRICS, 0.5)
    scorers = {"nano": ScorerFacts(tuple(values), "0" * 64, verified=True)}
    append_scores(tmp_path / "scores.jsonl", [ScoreRow("a", "real", "ann", 1, values, {}, {"clip": "a.mp4"}, scorers)])
    report(tmp_path, FULL, {"data": 1.0})
    assert (tmp_path / "table.json").is_file()
    assert not (tmp_path / "index.html").exists()
    assert len(list((tmp_path / "page/pictures").glob("*-sound.jpg"))) == 1
    assert "page/index.html" in capsys.readouterr().out.replace("\n", "")
