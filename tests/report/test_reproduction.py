"""Ours beside the published rows, failures with a penalty, and the table as LaTeX and CSV."""

import csv
import io
from dataclasses import replace

import pytest

from idlora_pl.report.build import build_table
from idlora_pl.report.formats import latex_text, to_csv, to_latex, to_markdown
from idlora_pl.report.table import Column, Row
from idlora_pl.results.row import ScorerFacts, ScoreRow

WER = Column("wer", "WER", "lower", worst=1.0)
SIM = Column("sim", "Sim_a", "higher")


def rows(values, verified=True):
    """One row a clip of its own speaker; None failed."""
    facts = {"both": ScorerFacts(("wer", "sim"), "none", verified)}
    return [
        ScoreRow(
            f"{i}", "ours", f"{i}", scores={"wer": v, "sim": 0.5},
            reasons={"wer": "silent"} if v is None else {}, scorers=facts,
        )
        for i, v in enumerate(values)
    ]  # fmt: skip


def table(values, published=0.2, verified=True, **options):
    listed = [Row("ours", against="theirs"), Row("theirs", quoted={"wer": published}, source="their page")]
    return build_table(rows(values, verified), listed, [WER, SIM], **options)


def test_numbers_of_scorers_that_proved_nothing_say_so_wherever_they_are_printed():
    for verified, n_marks in {True: 0, False: 3}.items():
        made = table([0.1, 0.2, None], verified=verified)
        text = to_markdown(made)
        assert text.count(" unverified |") == n_marks  # two cells, one reproduction
        assert ("failures counted as 1 (unverified)" in text) == (not verified)
        assert ("`idlora doctor` says why" in text) == (not verified)
        assert to_latex(made).split(r"\end{table}")[0].count("unverified") == (0 if verified else 3)
        kept = [line["verified"] for line in csv.DictReader(io.StringIO(to_csv(made)))]
        assert kept == [str(verified)] * 2 + ["True"] * 2
        assert [cell["verified"] for cell in made.to_dict()["rows"]] == [verified] * 2 + [True] * 2


def test_one_unverified_clip_makes_a_number_unverified_and_a_difference_with_it():
    mixed = [*rows([0.1, 0.2, 0.3])[:2], rows([0.1, 0.2, 0.3], verified=False)[2]]
    others = [replace(row, row="b") for row in rows([0.2, 0.3, 0.4])]
    made = build_table([*mixed, *others], ["ours", "b"], [WER], [("ours", "b")])
    assert (made.is_verified("ours", "wer"), made.is_verified("b", "wer")) == (False, True)
    assert "| ours - b | WER ↓ | -0.100 unverified | 0.250 | 3 | 3 |" in to_markdown(made)


def test_our_interval_covers_what_lies_inside_it_and_nothing_else():
    inside, outside = table([0.1, 0.2, 0.3]), table([0.1, 0.2, 0.3], published=0.9)
    assert [one.covered for one in inside.reproductions] == [True]
    assert [one.covered for one in outside.reproductions] == [False]
    assert inside.reproductions[0].difference == pytest.approx(0)
    assert "| ours / theirs | WER ↓ | 0.200 [-0.048, 0.448] | 0.900 | -0.700 | no |" in to_markdown(outside)


def test_a_row_that_was_not_run_covers_nothing():
    listed = [Row("ours", against="theirs", command="make ours"), Row("theirs", quoted={"wer": 0.2})]
    made = build_table([], listed, [WER])
    assert [(one.difference, one.covered) for one in made.reproductions] == [(None, None)]
    assert "run `make ours`" in to_markdown(made)


def test_a_row_stands_against_a_quoted_row_only():
    with pytest.raises(ValueError, match="against names 'them', which is no quoted row"):
        build_table(rows([0.1]), [Row("ours", against="them")], [WER])


def test_failures_count_as_the_worst_value_beside_the_plain_mean():
    made = table([0.2, None, 0.4, None])
    assert made.cell("ours", "wer").mean == pytest.approx(0.3)
    (cell,) = made.penalised
    assert (cell.row, cell.metric, cell.interval.mean) == ("ours", "wer", pytest.approx((0.2 + 1 + 0.4 + 1) / 4))
    assert "ours, WER: 0.650" in to_markdown(made)
    assert "with 2 failures counted as 1" in to_markdown(made)


def test_failures_in_a_column_without_a_worst_value_are_said():
    lse = Column("lse_d", "LSE-D", "lower")
    clips = [("ours", 7.0), ("ours", None), ("ours", None), ("b", 8.0), ("b", 9.0), ("b", 8.0)]
    scored = [
        ScoreRow(f"{i % 3}", row, "s", scores={"lse_d": v}, reasons={} if v else {"lse_d": "no_face"})
        for i, (row, v) in enumerate(clips)
    ]
    said = "- LSE-D: no worst value, so failures are left out of every mean (ours 2).\n"
    assert said in to_markdown(build_table(scored, ["ours", "b"], [lse]))
    assert "no worst value" not in to_markdown(build_table(scored, ["ours", "b"], [replace(lse, worst=20.0)]))
    assert "no worst value" not in to_markdown(build_table(scored, ["b"], [lse]))


def test_without_failures_there_is_no_penalty():
    assert table([0.2, 0.4]).penalised == ()


def test_latex_escapes_names_and_marks_quoted_rows():
    text = to_latex(table([0.1, 0.3], caption="50 % of a_b & c"))
    assert r"\caption{50 \% of a\_b \& c}" in text
    assert r"Sim\_a $\uparrow$" in text
    assert r"\textit{theirs} & \textit{0.200} & -- & -- \\" in text
    assert r"ours & 0.200 {\scriptsize [-1.071, 1.471]}" in text
    assert text.count("{") == text.count("}")


def test_latex_text_leaves_no_bare_special_character():
    assert latex_text("a&b%c$d#e_f") == r"a\&b\%c\$d\#e\_f"


def test_csv_holds_every_cell_in_full_precision():
    made = table([0.1, 0.3333333333333333])
    lines = list(csv.DictReader(io.StringIO(to_csv(made))))
    assert [(line["row"], line["metric"]) for line in lines] == [(c.row, c.metric) for c in made.cells]
    assert float(lines[0]["mean"]) == made.cell("ours", "wer").mean
    assert [line["quoted"] for line in lines] == ["False", "False", "True", "True"]
    assert lines[3]["mean"] == ""
