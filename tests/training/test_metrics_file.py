"""metrics.csv is one file: columns widen, lines of steps that are made again move away, and a cut line is no step."""

import csv

import torch

from idlora_pl.training.metrics_file import MetricsFile


def lines(path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_column_that_is_new_widens_the_table(tmp_path):
    log = MetricsFile(tmp_path / "run")
    log.log_metrics({"loss": torch.tensor(1.5), "epoch": 0}, 0)
    log.log_metrics({"val/loss": 2.0}, 0)
    log.log_metrics({"loss": 0.5, "epoch": 1}, 1)
    assert lines(tmp_path / "run/metrics.csv") == [
        {"epoch": "0", "loss": "1.5", "step": "0", "val/loss": ""},
        {"epoch": "", "loss": "", "step": "0", "val/loss": "2.0"},
        {"epoch": "1", "loss": "0.5", "step": "1", "val/loss": ""},
    ]


def test_lines_of_steps_that_are_made_again_move_away_with_the_first_new_one(tmp_path):
    log = MetricsFile(tmp_path)
    for step in range(5):
        log.log_metrics({"loss": float(step)}, step)
    (tmp_path / "metrics.csv").write_text((tmp_path / "metrics.csv").read_text() + "5.0")  # killed in the line
    before = (tmp_path / "metrics.csv").read_bytes()
    log = MetricsFile(tmp_path, start=3, replaced=tmp_path / "resumed-3")
    log.save()
    log.finalize("failed")
    assert (tmp_path / "metrics.csv").read_bytes() == before
    log.log_metrics({"loss": 9.0}, 3)
    assert [(line["step"], line["loss"]) for line in lines(tmp_path / "metrics.csv")] == [
        ("0", "0.0"), ("1", "1.0"), ("2", "2.0"), ("3", "9.0"),
    ]  # fmt: skip
    moved = lines(tmp_path / "resumed-3/replaced.csv")
    assert [(line["step"], line["loss"]) for line in moved] == [("3", "3.0"), ("4", "4.0"), ("", "5.0")]
