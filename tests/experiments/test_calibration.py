"""Calibration: scores of methods beside published numbers, and nothing said that the clips do not support."""

import json
import math
import os
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats as scipy_stats

from experiments.calibration.__main__ import main as calibration
from experiments.calibration.__main__ import why_absent
from experiments.calibration.build import Calibration, calibrate
from experiments.calibration.fit import (
    MIN_SPEAKERS,
    agreeing_pairs,
    fit_of,
    grid_of,
    kendall_tau,
    misfits,
    order_p_value,
)
from experiments.calibration.published import read_published
from experiments.calibration.render import notes
from experiments.calibration.verdict import CHOICES, GROUPS, Choice, candidates_of
from idlora_pl.cli import main
from idlora_pl.report.table import Column
from idlora_pl.results.row import ScorerFacts, ScoreRow
from idlora_pl.results.scores_file import append_scores, read_scores
from idlora_pl.scorers.registry import CARDS

ROOT = Path(__file__).parents[2]
HARD = ROOT / "experiments/tables/main_celebvhq_hard.yaml"
MEDIA = ROOT.parent / "shared/media"
METHODS = ("ours", "kling", "cosyvoice", "voicecraft", "elevenlabs_wan")
SPK = {"ours": 0.477, "kling": 0.385, "cosyvoice": 0.391, "voicecraft": 0.344, "elevenlabs_wan": 0.357}
WER = Column("wer", "WER", "lower")


def row_of(key: str, method: str, scores: dict[str, float | None], *, weights: str = "ab", **notes: str) -> ScoreRow:
    """One clip; its speaker is what stands before the dash, and a missing score is `silent`."""
    missing = {name: "silent" for name, value in scores.items() if value is None}
    facts = {"scorer": ScorerFacts(tuple(scores), weights, verified=True)} if scores else {}
    return ScoreRow(key, method, key.split("-")[0], None, scores, missing, notes, facts)


def clips(n_speakers: int, noise: float = 0.0, seed: int = 0, **shifts: float) -> list[ScoreRow]:
    """Two clips of each speaker by every method, at the published Spk Sim plus a shift for each score."""
    rng = np.random.default_rng(seed)
    return [
        row_of(
            f"s{speaker}-{number}",
            method,
            {name: SPK[method] + shift + noise * rng.standard_normal() for name, shift in shifts.items()},
            split="celebvhq_hard",
        )
        for speaker in range(n_speakers)
        for number in range(2)
        for method in METHODS
    ]


def compared(rows: list[ScoreRow], split: str = "celebvhq_hard") -> Calibration:
    return calibrate(rows, read_published(HARD), Path("scores.jsonl"), split, lambda score: f"no {score}")


def fits_of(found: Calibration, column: str) -> dict:
    return {m.candidate.score: m for c, measured in found.columns for m in measured if c.metric == column}


def verdict_on(found: Calibration, question: str):
    return next(one for one in found.verdicts if one.question == question)


# ranking


@pytest.mark.parametrize("seed", range(20))
def test_tau_and_its_p_value_are_those_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ours, published = rng.standard_normal(5), rng.standard_normal(5)
    expected = scipy_stats.kendalltau(ours, published, method="exact", alternative="greater")
    assert kendall_tau(ours, published) == pytest.approx(expected.statistic)
    assert order_p_value(ours, published) == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("seed", range(20))
def test_with_ties_tau_is_that_of_scipy_and_p_counts_all_orders(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ours, published = rng.integers(0, 3, 5).astype(float), rng.integers(0, 3, 5).astype(float)
    tau = scipy_stats.kendalltau(ours, published).statistic
    if math.isnan(tau):
        assert kendall_tau(ours, published) is None
        assert order_p_value(ours, published) is None
        return
    orders = [scipy_stats.kendalltau(order, published).statistic for order in permutations(ours)]
    assert kendall_tau(ours, published) == pytest.approx(tau)
    assert order_p_value(ours, published) == pytest.approx(np.mean(np.array(orders) >= tau - 1e-9))


def test_the_best_order_of_five_has_one_chance_in_120() -> None:
    assert order_p_value(np.arange(5.0), np.arange(5.0)) == pytest.approx(1 / 120)
    assert order_p_value(np.arange(9.0), np.arange(9.0)) is None


def test_pairs_of_one_clip_agree_only_where_it_orders_them() -> None:
    values = np.array([[3.0, 1.0, 1.0], [2.0, 2.0, 1.0], [1.0, 3.0, 1.0]])
    assert agreeing_pairs(values, np.array([3.0, 2.0, 1.0])).tolist() == [1.0, 0.0, 0.0]
    assert agreeing_pairs(values, np.array([3.0, 1.0, 1.0])).tolist() == [1.0, 0.0, 0.0]
    assert agreeing_pairs(values, np.ones(3)) is None


# common clips


def test_only_clips_that_every_method_has_are_compared() -> None:
    rows = [row_of(key, name, {"wer": 0.5}) for key in ("a-1", "b-1") for name in ("ours", "kling")]
    rows += [
        row_of("c-1", "ours", {"wer": 0.0}),
        row_of("c-1", "kling", {"wer": None}),
        row_of("d-1", "ours", {"wer": 0}),
    ]
    grid = grid_of(rows, "wer", ["ours", "kling"])
    assert (grid.keys, grid.speakers) == (("a-1", "b-1"), ("a", "b"))
    assert grid.values.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert grid.left_out == {"c-1": "kling silent", "d-1": "kling not scored"}


def test_a_method_without_any_value_is_left_out_and_not_the_clips() -> None:
    rows = [row_of("a-1", "ours", {"wer": 0.5}), row_of("a-1", "kling", {"wer": None})]
    grid = grid_of(rows, "wer", ["ours", "kling", "cosyvoice"])
    assert (grid.methods, grid.keys) == (("ours",), ("a-1",))
    assert grid.without == {"kling": "silent", "cosyvoice": "not scored"}


def test_methods_that_were_scored_with_other_weights_are_refused() -> None:
    rows = [row_of("a-1", "ours", {"wer": 0.5}), row_of("a-1", "kling", {"wer": 0.5}, weights="cd")]
    with pytest.raises(ValueError, match="wer of 'ours' was made with weights ab, of 'kling' with cd; score all"):
        grid_of(rows, "wer", ["ours", "kling"])


def test_one_unverified_value_makes_a_score_unverified() -> None:
    rows = [row_of("a-1", "ours", {"wer": 0.5}), ScoreRow("a-1", "kling", "a", scores={"wer": 0.1})]
    assert not grid_of(rows, "wer", ["ours", "kling"]).is_verified
    assert grid_of(rows[:1], "wer", ["ours"]).is_verified


# fit


def test_a_fit_orders_by_the_direction_of_the_column() -> None:
    values = {"ours": 0.1, "kling": 0.2, "cosyvoice": 0.9}
    rows = [row_of(key, name, {"wer": value}) for key in ("a-1", "a-2") for name, value in values.items()]
    fit = fit_of(grid_of(rows, "wer", list(values)), WER, {"ours": 0.0, "kling": 0.3, "cosyvoice": 0.5})
    assert [level.rank for level in fit.levels] == [level.published_rank for level in fit.levels] == [1, 2, 3]
    assert (fit.tau, fit.p, fit.clips_agreeing, fit.n_clips, fit.n_speakers) == (1, pytest.approx(1 / 6), 2, 2, 1)
    assert fit.off.mean == pytest.approx((0.1 + 0.1 + 0.4) / 3)
    assert fit.bias.mean == pytest.approx((0.1 - 0.1 + 0.4) / 3)
    assert (fit.off.ci_low, fit.pairs.ci_low, fit.covered) == (None, None, None)


def test_a_stand_in_has_an_order_and_no_difference_of_level() -> None:
    grid = grid_of(clips(MIN_SPEAKERS, spk_sim_dvector=0.3), "spk_sim_dvector", METHODS)
    fit = fit_of(grid, Column("spk_sim_idlora", "Spk Sim", "higher"), SPK, is_stand_in=True)
    assert fit.tau == 1
    assert (fit.off, fit.bias, fit.covered) == (None, None, None)


def test_intervals_come_with_enough_speakers() -> None:
    column = Column("spk_sim_idlora", "Spk Sim", "higher")
    for n_speakers in (MIN_SPEAKERS - 1, MIN_SPEAKERS):
        grid = grid_of(clips(n_speakers, noise=0.05, spk_sim_idlora=0.0), "spk_sim_idlora", METHODS)
        fit = fit_of(grid, column, SPK)
        has_ends = n_speakers == MIN_SPEAKERS
        assert (fit.off.ci_low is not None, fit.pairs.ci_low is not None) == (has_ends, has_ends)
        assert [level.ours.ci_low is not None for level in fit.levels] == [has_ends] * 5
        assert (fit.covered is not None) == has_ends


def test_the_misfit_of_a_resample_is_that_of_its_clips() -> None:
    rows = [row_of(key, "ours", {"wer": value}) for key, value in (("a-1", 0.2), ("b-1", 0.6))]
    found = misfits(grid_of(rows, "wer", ["ours"]), np.array([0.5]))
    assert sorted(set(found.round(9))) == pytest.approx([0.1, 0.3])


# verdicts


def test_two_speakers_decide_nothing_however_well_a_reading_fits() -> None:
    found = compared(clips(2, spk_sim_idlora=0.0, spk_sim_idlora_target=0.3))
    one = verdict_on(found, "Spk Sim compares with")
    assert one.state == "undecided"
    assert one.sentence.startswith("undecided: the reference is nearest in level, but fewer than 6 speakers decide")
    assert "n = 4 clips of 2 speakers, 5 methods" in one.sentence


def test_a_reading_fits_better_where_its_level_is_nearer_beyond_chance() -> None:
    found = compared(clips(8, noise=0.02, spk_sim_idlora=0.2, spk_sim_idlora_target=0.0))
    one = verdict_on(found, "Spk Sim compares with")
    assert (one.state, one.answer) == ("fits better", "the target")
    assert "n = 16 clips of 8 speakers, 5 methods" in one.sentence


def test_a_difference_within_chance_is_undecided() -> None:
    found = compared(clips(8, noise=0.2, spk_sim_idlora=0.0, spk_sim_idlora_target=0.0))
    assert "but" in verdict_on(found, "Spk Sim compares with").sentence
    assert verdict_on(found, "Spk Sim compares with").state == "undecided"


def test_a_nearer_level_with_a_worse_order_is_undecided() -> None:
    rows = clips(8, spk_sim_idlora=0.2, spk_sim_idlora_target=0.0)
    for row in rows:
        if row.row == "ours":
            row.scores["spk_sim_idlora_target"] = 0.36
    one = verdict_on(compared(rows), "Spk Sim compares with")
    assert one.state == "undecided"
    assert "the target is nearest in level, but another order of the methods is nearer" in one.sentence


def test_a_stand_in_is_shown_and_decides_nothing() -> None:
    found = compared(clips(8, spk_sim_dvector=0.0, spk_sim_dvector_target=0.4))
    one = verdict_on(found, "Spk Sim compares with")
    assert one.state == "cannot be run here"
    assert one.sentence.startswith(
        "cannot be run here: no spk_sim_idlora; no spk_sim_idlora_target. The stand-in spk_sim"
    )
    assert "off" not in one.sentence


def test_answers_without_a_score_are_named() -> None:
    found = compared(clips(8, noise=0.01, clap_environment=0.1, clap_style=0.4))
    one = verdict_on(found, "The text of CLAP is")
    assert one.sentence.endswith("not measured: all sounds)")


def test_every_choice_is_between_candidates_of_one_column() -> None:
    groups = [{one.score for one in group} for group in GROUPS]
    for choice in CHOICES:
        named = {score for family in (*choice.families, *choice.stand_ins) for score in family}
        assert any(named <= group for group in groups), choice.question
    with pytest.raises(ValueError, match="choice 'q' has the answers"):
        Choice("q", ("a", "b"), (("wer",),))


def test_candidates_are_scores_of_scorers_in_the_direction_of_their_column() -> None:
    given = {score.name: score.better for card in CARDS.values() for score in card.scores}
    for group in GROUPS:
        assert len({given[one.score] for one in group if one.score in given}) == 1
        assert {one.score for one in group} - given.keys() <= {"clap_sounds_16k"}
    assert [one.score for one in candidates_of("my_own_score")] == ["my_own_score"]


# the whole of it


def test_a_missing_method_is_named_and_the_others_are_compared() -> None:
    rows = [row for row in clips(2, spk_sim_idlora=0.1) if row.row != "kling"]
    measured = fits_of(compared(rows), "spk_sim_idlora")["spk_sim_idlora"]
    assert len(measured.fit.levels) == 4
    assert measured.without == {"kling": "not scored"}
    assert measured.fit.off.mean == pytest.approx(0.1)


def test_clips_of_other_splits_and_bounds_are_kept_apart() -> None:
    rows = clips(2, spk_sim_idlora=0.0)
    rows += [row_of("t-1", name, {"spk_sim_idlora": 0.9}, split="talkvid") for name in METHODS]
    rows += [row_of("s0-0", "target", {"spk_sim_idlora": 0.8}, split="celebvhq_hard", bound="target")]
    found = compared(rows)
    measured = fits_of(found, "spk_sim_idlora")["spk_sim_idlora"]
    assert (found.n_clips, found.n_elsewhere, measured.fit.n_clips) == (4, 1, 4)
    assert (measured.bounds["target"].mean, measured.bounds["target"].n_scored) == (0.8, 1)
    assert fits_of(compared(rows, ""), "spk_sim_idlora")["spk_sim_idlora"].fit.n_clips == 5
    with pytest.raises(ValueError, match="no clip of split 'easy', it has celebvhq_hard, talkvid; give --split"):
        compared(rows, "easy")


def test_a_bound_without_any_clip_is_said_and_not_shown() -> None:
    rows = clips(2, spk_sim_idlora=0.0)
    rows += [row_of("s0-0", "same_speaker", {"spk_sim_idlora": None}, split="celebvhq_hard")]
    found = compared(rows)
    assert found.silent == {"same_speaker": "silent"}
    assert "No number of the row same_speaker: silent." in notes(found)
    assert fits_of(found, "spk_sim_idlora")["spk_sim_idlora"].bounds == {}


def test_a_score_that_nothing_could_be_scored_with_says_why() -> None:
    rows = [row_of("a-1", name, {"wer_grammar": None}, split="celebvhq_hard") for name in METHODS]
    measured = fits_of(compared(rows), "wer")
    assert measured["wer_grammar"].absence == "no clip has wer_grammar (silent)"
    assert measured["wer"].absence == "no wer"


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    rows = clips(8, noise=0.02, spk_sim_idlora=0.2, spk_sim_idlora_target=0.0, spk_sim_dvector=0.4)
    rows += [row_of("s0-0", "target", {"spk_sim_idlora": 0.8}, split="celebvhq_hard", bound="target")]
    append_scores(tmp_path / "scores.jsonl", rows)
    return tmp_path / "scores.jsonl"


def test_the_command_prints_and_writes_a_calibration(scored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = scored.parent / "out"
    calibration([str(scored), "--table", str(HARD), "--weights", str(scored.parent), "--output", str(output)])
    printed = capsys.readouterr().out
    assert "fits better: the target" in " ".join(printed.replace("│", " ").split())
    text = (output / "calibration.md").read_text()
    assert "| method | published | spk_sim_idlora | spk_sim_idlora_target | spk_sim_dvector (stand-in) |" in text
    assert "| ours | 0.477 (1) | 0.6" in text
    assert "| n | | 16 clips of 8 speakers, 5 methods |" in text.replace("|  |", "| |")
    assert "the weights of wer are missing (`idlora doctor --scorers wer` says how to get them)" in text
    content = json.loads((output / "calibration.json").read_text())
    assert content["columns"]["spk_sim_idlora"]["spk_sim_dvector"]["fit"]["off"] is None
    assert content["columns"]["spk_sim_idlora"]["spk_sim_idlora"]["fit"]["n_speakers"] == 8
    assert {one["state"] for one in content["verdicts"]} == {"fits better", "cannot be run here"}
    assert sorted(path.name for path in output.iterdir()) == ["calibration.json", "calibration.md"]


def changed(scored: Path, change) -> str:
    content = yaml.safe_load(HARD.read_text())
    change(content)
    path = scored.parent / "table.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("klingg", "method 'klingg' is no row of .*scores.jsonl; did you mean 'kling'\\? It has ours, kling,"),
        ("ours", r"rows\[2\]: method 'ours' is that of rows\[1\]; correct one"),
        (3, r"rows\[2\]: method must be the name of a row of scores; got 3"),
    ],
)
def test_a_method_of_the_yaml_that_cannot_be_is_refused(scored: Path, method: object, message: str) -> None:
    table = changed(scored, lambda content: content["rows"][2].update(method=method))
    with pytest.raises(SystemExit, match=message):
        calibration([str(scored), "--table", table])


def test_a_method_belongs_to_a_quoted_row(scored: Path) -> None:
    table = changed(scored, lambda content: content["rows"][0].update(method="mine"))
    with pytest.raises(SystemExit, match="method 'mine' belongs to a quoted row; remove it"):
        main(["table", table])


def test_methods_may_be_named_by_hand(scored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def forget(content):
        for row in content["rows"]:
            row.pop("method", None)

    table = changed(scored, forget)
    with pytest.raises(SystemExit, match="has no row of a method .*say which is which with --method ROW='LABEL"):
        calibration([str(scored), "--table", table])
    given = ["--method", "ours=ID-LoRA", "--method", "kling=Kling 2.6 Pro"]
    calibration([str(scored), "--table", table, *given])
    assert "16 clips of 8 speakers, 2 methods" in " ".join(capsys.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--method", "nobody=Kling 2.6 Pro"], "--method nobody: .* has no row of that name; it has ours, kling"),
        (["--method", "kling=Kling 3"], "--method kling=Kling 3: .* quotes no row 'Kling 3'; it has ID-LoRA, Kling"),
        (["--method", "kling"], "--method 'kling' must be ROW=LABEL"),
        (["--method", "ours=ID-LoRA", "--method", "ours=Kling 2.6 Pro"], "names the row 'ours' twice"),
        (["--method", "ours=ID-LoRA", "--method", "kling=ID-LoRA"], "two --method name one row"),
        (["--split", "talkvid"], "no clip of split 'talkvid', it has celebvhq_hard; give --split"),
        (
            ["--table", str(ROOT / "experiments/tables/nano_ablation.yaml")],
            "quotes no row; give a table with published",
        ),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(scored: Path, given: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        calibration([str(scored), "--table", str(HARD), *given])


def test_what_was_not_scored_comes_with_its_remedy(tmp_path: Path) -> None:
    assert why_absent("wer", tmp_path) == (
        "the weights of wer are missing (`idlora doctor --scorers wer` says how to get them)"
    )
    assert why_absent("lip_sync", tmp_path).startswith("nano_lip_sync was not run; score the methods with")
    assert why_absent("no_such", tmp_path) == "no scorer of this version gives no_such"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not MEDIA.is_dir(), reason="needs ../shared/media, the authors' clips and small public checkpoints")
def test_the_run_goes_through_and_decides_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments.calibration", "--media", str(MEDIA), "--output", str(tmp_path)]
    # the scorers of lips take most of the documented run's minutes
    command += ["--scorers", "spk_sim_dvector,face_sim_mobilefacenet,wer_grammar"]
    threads = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    first = subprocess.run(command, cwd=ROOT, env=threads, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr[-2000:]
    found = json.loads((tmp_path / "celebvhq_hard/calibration.json").read_text())
    assert {one["state"] for one in found["verdicts"]} == {"cannot be run here"}
    voices = found["columns"]["spk_sim_idlora"]["spk_sim_dvector"]
    assert (voices["is_verified"], voices["fit"]["n_clips"], len(voices["fit"]["levels"])) == (True, 2, 5)
    talkvid = json.loads((tmp_path / "talkvid/calibration.json").read_text())
    assert talkvid["columns"]["face_sim"]["face_sim_mobilefacenet"]["without"] == {"kling": "clip_not_given"}
    lines = (tmp_path / "scores.jsonl").read_text().splitlines()
    assert {row.row for row in read_scores(tmp_path / "scores.jsonl")} >= {*METHODS, "target", "other_speaker"}
    again = subprocess.run(command, cwd=ROOT, env=threads, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr[-2000:]
    assert "0 clips scored, 3 were scored before" in again.stdout
    assert (tmp_path / "scores.jsonl").read_text().splitlines() == lines
