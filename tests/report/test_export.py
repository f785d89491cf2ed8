"""The table for a paper, a spreadsheet and a page of text: the same numbers, and no character that means something."""

import csv
import io
from dataclasses import replace

import pytest

from idlora_pl.report.build import build_table
from idlora_pl.report.formats import paired_csv, to_csv, to_latex, to_markdown
from idlora_pl.report.table import Column, Row
from idlora_pl.results.row import ScorerFacts, ScoreRow

WER = Column("wer", "WER", "lower", worst=1.0)
SIM = Column("sim", "Spk|Sim_50%", "higher")


def rows(label, values):
    facts = {"both": ScorerFacts(("wer", "sim"), "none", True)}
    return [
        ScoreRow(
            f"{i}", label, f"{i}", scores={"wer": v, "sim": 0.5},
            reasons={"wer": "silent"} if v is None else {}, scorers=facts,
        )
        for i, v in enumerate(values)
    ]  # fmt: skip


def table(**changes):
    scores = [*rows("ours", [0.1, 0.3, None]), *rows("[b]", [0.2, 0.2, 0.5])]
    listed = [Row("ours", against="theirs"), "[b]", Row("theirs", quoted={"wer": 0.25}, source="a\n\\end{x}")]
    return replace(build_table(scores, listed, [WER, SIM], [("[b]", "ours")], caption="c"), **changes)


def test_latex_holds_the_difference_whether_it_is_covered_the_pairs_and_the_count_of_each_cell():
    text = to_latex(table())
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3
    covered = r"ours / theirs & WER $\downarrow$ & 0.200 [-1.071, 1.471] & 0.250 & -0.050 & yes \\"
    assert covered in text
    assert r"{[}b] - ours & WER $\downarrow$ & " in text
    assert r"ours & 0.200 {\scriptsize [-1.071, 1.471] (2/3)} & 0.500 & 2-3/3 \\" in text


def test_no_line_of_latex_begins_with_what_would_be_an_option_of_the_line_before():
    text = to_latex(table())
    bodies = [part.split(r"\end{tabular}")[0] for part in text.split(r"\begin{tabular}")[1:]]
    assert not any(line[0] in "[*" for body in bodies for line in body.splitlines())
    assert r"{[}b] & 0.300" in text


def test_notes_stay_in_the_comments_of_latex():
    behind = to_latex(table(findings=("one\ntwo",))).split(r"\end{table}")[1]
    assert all(line.startswith("% ") for line in behind.strip().splitlines())
    assert "% one two\n" in behind
    assert r"% theirs: quoted from a \end{x}" in behind


def test_csv_holds_differences_coverage_and_means_with_failures():
    lines = {(one["row"], one["metric"]): one for one in csv.DictReader(io.StringIO(to_csv(table())))}
    ours = lines["ours", "wer"]
    assert (ours["against"], ours["published"], ours["covered"]) == ("theirs", "0.25", "True")
    assert float(ours["difference"]) == pytest.approx(-0.05)
    assert (ours["n_failed"], float(ours["penalised_mean"])) == ("1", pytest.approx(1.4 / 3))
    assert float(ours["penalised_ci_low"]) < float(ours["penalised_ci_high"])
    assert {lines["[b]", "wer"][name] for name in ("against", "difference", "covered", "penalised_mean")} == {""}


def test_a_second_csv_holds_the_pairs():
    found = list(csv.DictReader(io.StringIO(paired_csv(table()))))
    assert [(one["a"], one["b"], one["metric"], one["n"]) for one in found] == [
        ("[b]", "ours", "wer", "2"),
        ("[b]", "ours", "sim", "3"),
    ]
    assert float(found[0]["difference"]) == pytest.approx(0.0)
    assert list(found[0]) == [
        *("a", "b", "metric", "difference", "ci_low", "ci_high", "p", "n", "n_speakers", "n_dropped", "p_margin"),
        *("n_failed", "n_unpaired", "penalised", "penalised_ci_low", "penalised_ci_high", "penalised_p"),
    ]
    first, second = ([one[name] for name in ("n_speakers", "n_dropped", "n_failed")] for one in found)
    assert (first, second) == (["2", "1", "1"], ["3", "0", "0"])
    # [0.2, 0.2, 0.5] minus [0.1, 0.3, 1]
    assert (float(found[0]["penalised"]), found[1]["penalised"]) == (pytest.approx(-0.5 / 3), "")


def test_markdown_means_nothing_by_the_characters_of_names():
    scores = rows("a_b *c* <i>", [0.1, 0.2])
    text = to_markdown(build_table(scores, ["a_b *c* <i>", Row("d|e", command="make d_e")], [WER, SIM]))
    assert r"| row | WER ↓ | Spk\|Sim\_50% ↑ | n |" in text
    assert r"| a\_b \*c\* \<i> | 0.150" in text
    assert r"- d\|e: not measured; run `make d_e`" in text


def test_markdown_names_are_no_links_and_stay_on_their_line():
    text = to_markdown(build_table(rows("[x](y)\nz", [0.1, 0.2]), ["[x](y)\nz"], [WER]))
    assert r"| [x]\(y) z | 0.150" in text
