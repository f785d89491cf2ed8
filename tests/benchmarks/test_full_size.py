"""The rows of the full-size benchmark run at small size on the CPU, go on where they stopped, and say what failed."""

import json
from pathlib import Path

import pytest

from benchmarks import full_size
from benchmarks.flops import counted
from benchmarks.full_size import ROWS, Row, main


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr("benchmarks.measure.MOST_STEPS", 1)
    monkeypatch.setattr("benchmarks.measure.FEWEST_STEPS", 1)


def results(folder: Path) -> dict[str, dict]:
    lines = (folder / "results.jsonl").read_text().splitlines()
    return {result["name"]: result for result in map(json.loads, lines)}


def test_every_name_is_there_once_and_every_setting_is_one_that_the_memory_levels_know():
    from benchmarks.measure import Bench, _memory
    from idlora_pl.ltx2.presets import preset_named

    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        _memory(row, preset_named("ltx2-19b"))
        assert hasattr(Bench, f"_{row.kind}")


def test_a_row_is_measured_once_and_a_second_call_goes_on(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(full_size, "ROWS", (Row("a", "guided_step"), Row("b", "training_step", weights="nf4")))
    main(tmp_path, preset="smoke", device="cpu", only=["a"])
    before = (tmp_path / "results.jsonl").read_text()
    assert results(tmp_path)["a"]["s_per_step"] > results(tmp_path)["a"]["one_pass"]["s_per_step"]
    main(tmp_path, preset="smoke", device="cpu")
    found = results(tmp_path)
    assert (tmp_path / "results.jsonl").read_text().startswith(before)
    assert list(found) == ["a", "b"]
    assert found["b"]["setting"]["weights"] == "nf4"
    assert found["b"]["loss"] > 0
    assert "2 of 2 rows" in capfd.readouterr().out


def test_a_row_that_fails_is_written_down_and_measured_again_on_demand(tmp_path, monkeypatch):
    (tmp_path / "results.jsonl").write_text('{"name": "a", "failed": "the card was lost"}\n')
    monkeypatch.setattr(full_size, "ROWS", (Row("a", "batched_passes"),))
    main(tmp_path, preset="smoke", device="cpu")
    assert results(tmp_path)["a"]["failed"] == "the card was lost"
    main(tmp_path, preset="smoke", device="cpu", retry_failed=True)
    assert results(tmp_path)["a"]["s_per_step"] > 0


@pytest.mark.slow
def test_a_process_that_dies_costs_its_row_only(tmp_path, monkeypatch):
    from benchmarks import measure

    def killed(*_: object) -> None:
        import os

        os._exit(9)

    monkeypatch.setattr(measure.Bench, "_profile", killed)  # what a card's fault does to the process
    monkeypatch.setattr(full_size, "ROWS", (Row("a", "profile"), Row("b", "batched_passes")))
    main(tmp_path, preset="smoke", device="cpu")
    assert "status 9" in results(tmp_path)["a"]["failed"]
    assert results(tmp_path)["b"]["s_per_step"] > 0


def test_an_unknown_row_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(SystemExit, match="no row 'c'; rows are train b1, "):
        main(tmp_path, only=["c"])


@pytest.mark.slow
def test_operations_are_those_of_the_matrix_products():
    found = counted("smoke", frames=17, height=64, width=64, text_tokens=16, rank=4)
    assert found["forward"] < found["training"] < 3 * found["forward"]
    assert found["guided"] == pytest.approx(5 * found["forward"], rel=0.2)


@pytest.mark.slow
def test_operations_grow_with_the_batch():
    found, twice = (counted("smoke", batch=n, frames=17, height=64, width=64, text_tokens=16, rank=4) for n in (1, 2))
    assert twice["forward"] == pytest.approx(2 * found["forward"], rel=1e-3)
