"""From scores to a table: every number follows from the rows, and mismatched rows are refused."""

from dataclasses import replace

import pytest

from idlora_pl.report.build import build_table
from idlora_pl.report.formats import to_csv, to_latex, to_markdown
from idlora_pl.report.table import Column, Row
from idlora_pl.results.row import ScoreRow
from idlora_pl.results.statistics import clustered_interval, paired_difference


def rows_of(name: str, values: dict[str, float | None], metric: str = "wer") -> list[ScoreRow]:
    """One row per clip; clips ``a1`` and ``a2`` are of speaker ``a``."""
    return [
        ScoreRow(key, name, key[0], scores={metric: value}, reasons={metric: "silent"} if value is None else {})
        for key, value in values.items()
    ]


OURS = rows_of("ours", {"a1": 0.1, "a2": 0.3, "b1": None, "c1": 0.8})
THEIRS = rows_of("theirs", {"a1": 0.2, "a2": 0.5, "b1": 0.1, "c1": 0.9})


def test_a_cell_is_the_clustered_interval_of_its_row() -> None:
    table = build_table(OURS + THEIRS, ["ours", "theirs"], ["wer"])
    assert table.cell("ours", "wer") == clustered_interval([0.1, 0.3, None, 0.8], ["a", "a", "b", "c"])
    assert (table.cell("ours", "wer").n_scored, table.cell("ours", "wer").n_total) == (3, 4)


def test_a_comparison_is_the_paired_difference_of_its_rows() -> None:
    table = build_table(OURS + THEIRS, ["ours", "theirs"], ["wer"], [("ours", "theirs")])
    (comparison,) = table.comparisons
    values = [{score.key: score.scores["wer"] for score in row} for row in (OURS, THEIRS)]
    assert comparison.difference == paired_difference(*values, {key: key[0] for key in values[0]}, null=0.01)
    penalised = values[0] | {"b1": 1.0}
    assert comparison.penalised == paired_difference(
        penalised, values[1], {key: key[0] for key in values[0]}, null=0.01
    )
    assert (comparison.n_failed, comparison.n_unpaired, comparison.difference.n_dropped) == (1, 0, 1)
    assert (comparison.difference.n, comparison.difference.diff) == (3, pytest.approx(-0.4 / 3))


def test_table_json_has_exactly_its_keys() -> None:
    content = build_table(
        OURS + THEIRS, ["ours", "theirs"], ["wer"], [("ours", "theirs")], seconds={"fit": 12.5}
    ).to_dict()
    assert list(content) == ["rows", "paired", "seconds", "penalised"]
    named = ["row", "metric", "mean", "ci_low", "ci_high", "n_scored", "n_total", "verified"]
    assert list(content["rows"][0]) == [*named, "n_speakers", "seeds_least", "seeds_most"]
    difference = ["diff", "ci_low", "ci_high", "p", "n", "n_speakers", "n_dropped", "p_margin"]
    (paired,) = content["paired"]
    assert list(paired) == ["a", "b", "metric", *difference, "penalised", "n_failed", "n_unpaired"]
    assert list(paired["penalised"]) == difference
    assert content["seconds"] == {"fit": 12.5}


def test_a_share_over_seeds_has_the_interval_of_a_share() -> None:
    values = {
        (f"{speaker}{clip}", seed): 0.0 if (speaker, seed) == ("a", 0) else 1.0
        for speaker in "abcdef"
        for clip in range(4)
        for seed in range(3)
    }
    rows = [ScoreRow(key, "ours", key[0], seed=seed, scores={"right": value}) for (key, seed), value in values.items()]
    found = build_table(rows, ["ours"], [Column("right", "right", "higher")]).cell("ours", "right")
    assert found.mean == pytest.approx(17 / 18)
    assert 0.5 < found.ci_low < found.mean < found.ci_high < 1


def test_seeds_of_a_clip_count_as_one_clip() -> None:
    repeats = [
        ScoreRow("a1", "ours", "a", seed=seed, scores={"wer": value}, reasons=reasons)
        for seed, value, reasons in [(0, 0.2, {}), (1, 0.4, {}), (2, None, {"wer": "silent"})]
    ]
    cell = build_table(repeats, ["ours"], ["wer"]).cell("ours", "wer")
    assert (cell.mean, cell.n_scored, cell.n_total) == (pytest.approx(0.3), 1, 1)


def seeded(row: str, n_seeds: int, n_clips: int = 6) -> list[ScoreRow]:
    return [
        ScoreRow(f"k{i}", row, f"s{i}", seed, {"wer": (i + seed) / 10})
        for i in range(n_clips)
        for seed in range(n_seeds)
    ]


def test_the_number_of_seeds_stands_beside_n_everywhere() -> None:
    table = build_table(seeded("a", 3) + seeded("b", 1), ["a", "b"], ["wer"], [("a", "b")])
    text = to_markdown(table)
    assert "| 6/6, 3 seeds |" in text
    assert "Seeds: a clip counts once, with the mean over its seeds." in text
    assert "Unequal numbers of seeds a clip (a 3, b 1)" in text
    assert [(one["seeds_least"], one["seeds_most"]) for one in table.to_dict()["rows"]] == [(3, 3), (1, 1)]
    csv_lines = to_csv(table).splitlines()
    assert (csv_lines[0].split(",")[8:10], csv_lines[1].split(",")[8:10]) == (["seeds_least", "seeds_most"], ["3", "3"])
    assert "6/6, 3 seeds" in to_latex(table)


def test_equal_numbers_of_seeds_and_real_clips_are_not_flagged() -> None:
    real = [replace(score, row="real", seed=None) for score in seeded("real", 1)]
    text = to_markdown(build_table(seeded("a", 2) + seeded("b", 2) + real, ["a", "b", "real"], ["wer"]))
    assert "Unequal" not in text
    text = to_markdown(build_table(seeded("a", 2)[:-1], ["a"], ["wer"]))
    assert "| 6/6, 1-2 seeds |" in text
    assert "Unequal numbers of seeds a clip (a 1 to 2)" in text


def test_rows_keep_their_order_and_missing_ones_are_empty() -> None:
    table = build_table(THEIRS, [Row("ours", command="idlora test -c x.yaml"), "theirs"], ["wer"], [("theirs", "ours")])
    assert [row.label for row in table.rows if table.is_missing(row)] == ["ours"]
    assert (table.cell("ours", "wer").mean, table.comparisons[0].difference.n) == (None, 0)


def test_quoted_rows_have_a_mean_and_nothing_else() -> None:
    table = build_table(OURS, ["ours", Row("paper", quoted={"wer": 0.12})], ["wer"])
    cell = table.cell("paper", "wer")
    assert (cell.mean, cell.ci_low, cell.n_total) == (0.12, None, 0)
    assert not table.is_missing(table.rows[1])


def test_rows_on_different_clips_are_refused_with_both_counts() -> None:
    with pytest.raises(ValueError, match="'ours' and 'theirs' are measured on different clips: 4 and 3, 3 of them"):
        build_table(OURS + THEIRS[:3], ["ours", "theirs"], ["wer"])


def test_names_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="no score is named 'lip_sync'; the scores hold wer"):
        build_table(OURS, ["ours"], ["lip_sync"])
    with pytest.raises(ValueError, match="column 'lipsync' is not known"):
        build_table(OURS, ["ours"], ["lipsync"])
    with pytest.raises(ValueError, match="paired names the row 'their'; the table has ours, theirs"):
        build_table(OURS + THEIRS, ["ours", "theirs"], ["wer"], [("ours", "their")])
    with pytest.raises(ValueError, match="better must be higher, lower or near zero; got 'up'"):
        Column("wer", "WER", "up")
    with pytest.raises(ValueError, match="distinct names; got ours, ours"):
        build_table(OURS, ["ours", "ours"], ["wer"])


LAG = Column("lag", "lip lag", "near zero", 1)


def test_lags_to_both_sides_do_not_cancel() -> None:
    early_and_late = rows_of("b", {"a1": -8.7, "b1": 4.3, "c1": 8.0}, "lag")
    steady = rows_of("ours", {"a1": 2.0, "b1": 2.0, "c1": -2.0}, "lag")
    table = build_table(early_and_late + steady, ["b", "ours"], [LAG], [("ours", "b")])
    assert table.cell("b", "lag") == clustered_interval([8.7, 4.3, 8.0], ["a", "b", "c"])
    assert (table.cell("b", "lag").mean, table.cell("ours", "lag").mean) == (pytest.approx(7.0), 2.0)
    assert table.comparisons[0].difference.diff == pytest.approx(-5.0)
    assert (LAG.heading, LAG.clip_heading) == ("|lip lag| →0", "lip lag →0")


def test_lags_of_two_seeds_do_not_cancel() -> None:
    seeds = [ScoreRow("a1", "ours", "a", seed=i, scores={"lag": lag}) for i, lag in enumerate((-3.0, 5.0))]
    assert build_table(seeds, ["ours"], [LAG]).cell("ours", "lag").mean == 4.0


def test_a_known_score_that_no_row_holds_is_dashes_and_a_note() -> None:
    table = build_table(OURS, ["ours"], ["wer", Column("lse_d", "LSE-D", "lower")], known={"lse_d"})
    text = to_markdown(table)
    assert "| ours | 0.400 [-3.194, 3.994] (3/4) unverified | – (0/4) | 0-3/4 |" in text
    assert "- LSE-D: no row holds lse\\_d; `idlora score` with its scorer makes it.\n" in text
    assert "no row holds" not in to_markdown(build_table([], ["ours"], ["wer"]))


@pytest.mark.parametrize(
    ("n_speakers", "said"),
    [
        (5, "So few speakers (5) decide nothing"),
        (8, "over 8 speakers hold where speakers scatter normally"),
        (12, ""),
    ],
)
def test_numbers_of_few_speakers_come_with_a_word(n_speakers: int, said: str) -> None:
    rows = [ScoreRow(f"k{i}", "ours", f"s{i}", scores={"wer": i / 10}) for i in range(n_speakers)]
    text = to_markdown(build_table(rows, ["ours"], ["wer"]))
    assert (said or "Mean") in text
    assert ("scatter normally" in text) == bool(said)


def test_one_speaker_has_no_interval_and_a_word_says_why() -> None:
    text = to_markdown(build_table(OURS[:2] + THEIRS[:2], ["ours", "theirs"], ["wer"], [("ours", "theirs")]))
    assert text.count("- Over one speaker there is no interval and no p: nothing shows how far others would") == 1
    assert "scatter normally" not in text
    assert "Over one speaker" not in to_markdown(build_table(OURS, ["ours"], ["wer"]))


def test_a_paired_difference_of_few_speakers_comes_with_a_word_of_its_own() -> None:
    rows = [
        ScoreRow(
            f"k{i}", row, f"s{i}", scores={"wer": i / 10 if row == "a" or i < 3 else None}, reasons={"wer": "silent"}
        )
        for row in "ab"
        for i in range(12)
    ]
    lags = [replace(one, row="c") for one in rows[:12]]
    text = to_markdown(build_table(rows[:12] + lags, ["a", "c"], ["wer"], [("a", "c")]))
    assert "scatter normally" not in text
    text = to_markdown(build_table(rows[:12] + rows[12:], ["a", Row("b")], ["wer"], [("a", "b")]))
    assert "So few speakers (3) decide nothing" in text
    assert "| a - b | word error rate ↓ | +0.000 unverified | 1.000 | 3 | 3 | 9 |" in text
    assert "| a - b | word error rate ↓, 9 failures as 1 | -0.225 [" in text
