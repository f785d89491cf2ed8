"""Findings: a claim holds only if interval, test, number of speakers and failures all let it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from idlora_pl.cli.table import known_columns
from idlora_pl.report.build import build_table
from idlora_pl.report.findings import Claim, with_findings
from idlora_pl.report.formats import to_markdown
from idlora_pl.report.table import COLUMNS, Column, Table
from idlora_pl.results.row import ScoreRow

Values = Sequence[float | None]
WER = Column("wer", "WER", "lower", worst=1.0, margin=0.01)


def table(a: Values, b: Values, column: Column | str, reason: str = "silent", *, per_speaker: int = 1) -> Table:
    """A table of two rows, `per_speaker` clips of each speaker."""
    name = column if isinstance(column, str) else column.metric
    scores = [
        ScoreRow(
            f"clip{index}", row, f"speaker{index // per_speaker}", 0, {name: value},
            {name: reason} if value is None else {},
        )
        for row, values in (("a", a), ("b", b))
        for index, value in enumerate(values)
    ]  # fmt: skip
    return build_table(scores, ["a", "b"], [column], [("a", "b")])


def found(made: Table, *, only_not_worse: bool = False) -> str:
    claim = Claim("a", "b", made.columns[0].metric, only_not_worse)
    return with_findings(made, [claim]).findings[0]


LOW, HIGH = [0.1, 0.12, 0.11, 0.13, 0.1, 0.15], [0.8, 0.83, 0.85, 0.81, 0.82, 0.84]
MIXED = [0.0, 0.9, 0.1, 0.3, 0.0, 0.2]


@pytest.mark.parametrize(
    ("a", "b", "metric", "verdict"),
    [
        (HIGH, LOW, "speaker_similarity", "holds: a is better than b"),
        (LOW, HIGH, "speaker_similarity", "does not hold, the opposite was measured"),
        (LOW, HIGH, "phoneme_error_rate", "holds: a is better than b"),
        (HIGH, LOW, "phoneme_error_rate", "does not hold, the opposite was measured"),
        (MIXED, LOW, "speaker_similarity", "not shown, the interval contains zero"),
    ],
)
def test_the_verdict_follows_the_interval(a: Values, b: Values, metric: str, verdict: str) -> None:
    said = found(table(a, b, metric))
    assert said.startswith(verdict)
    assert "n = 6 clips of 6 speakers" in said


@pytest.mark.parametrize("n_speakers", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("per_speaker", [1, 8])
def test_nothing_is_decided_below_six_speakers(n_speakers: int, per_speaker: int) -> None:
    a = [0.9 + 0.001 * i for i in range(n_speakers * per_speaker)]
    b = [0.1] * len(a)
    for pair in ((a, b), (b, a)):
        said = found(table(*pair, "speaker_similarity", per_speaker=per_speaker))
        assert said.startswith("not decided, 6 speakers are needed")
        assert f"clips of {n_speakers} speakers" in said


def test_an_interval_without_the_p_value_is_not_enough() -> None:
    # five of seven speakers far ahead, two a little behind: t excludes zero, sign flips give 4 of 128 and 6 of 128
    gaps = [0.5, 0.52, 0.5, 0.51, 0.5, -0.1, -0.14, 0.53]
    made = table(gaps, [0.0] * len(gaps), "speaker_similarity")
    difference = made.comparisons[0].difference
    assert difference.ci_low is not None
    assert difference.ci_low > 0
    for p, verdict in (
        (0.04, "holds"),
        (0.05, "holds"),
        (0.06, "not shown, the interval does not contain zero, but p"),
    ):
        comparison = replace(made.comparisons[0], difference=replace(difference, p=p))
        assert found(replace(made, comparisons=(comparison,))).startswith(verdict)


@pytest.mark.parametrize("claimed", [False, True])
def test_an_interval_that_ends_at_the_line_does_not_leave_it_out(claimed: bool) -> None:
    made = table(around(0.0, 0.01), [0.0] * 12, WER)
    line = 0.01 if claimed else 0.0  # the worse side of an error rate is above
    for low, high in ((line - 0.1, line), (line, line + 0.1)):
        sure = replace(made.comparisons[0].difference, ci_low=low, ci_high=high, p=0.001, p_margin=0.001)
        said = found(
            replace(made, comparisons=(replace(made.comparisons[0], difference=sure),)), only_not_worse=claimed
        )
        assert said.startswith(f"not shown, the interval contains {'the margin' if claimed else 'zero'}")


def test_one_interval_that_contains_zero_is_enough_to_say_so() -> None:
    made = table(MIXED, LOW, "speaker_similarity")
    beyond = replace(made.comparisons[0].difference, ci_low=0.1, ci_high=0.2, p=0.06)
    both = replace(made.comparisons[0], penalised=beyond)
    assert found(replace(made, comparisons=(both,))).startswith("not shown, the interval contains zero")


def test_a_p_value_without_the_interval_is_not_enough() -> None:
    made = table(MIXED, LOW, "speaker_similarity")
    comparison = replace(made.comparisons[0], difference=replace(made.comparisons[0].difference, p=0.01))
    assert found(replace(made, comparisons=(comparison,))).startswith("not shown, the interval contains zero")


def test_a_row_that_fails_on_the_hardest_clips_is_not_better() -> None:
    # a is better by 0.03 where it does not fail, and fails on the 8 hardest of 20
    hard = np.linspace(0.9, 0.4, 20)
    a = [None if i >= 12 else x + 0.03 + 0.001 * (i % 3) for i, x in enumerate(hard)]
    for one, other in ((a, hard.tolist()), (hard.tolist(), a)):
        made = table(one, other, "speaker_similarity")
        comparison = made.comparisons[0]
        assert (comparison.difference.n, comparison.difference.n_dropped, comparison.n_failed) == (12, 8, 8)
        assert comparison.penalised is not None
        assert comparison.penalised.n == 20
        said = found(made)
        assert said.startswith("not shown, without and with failures counted it is not the same")
        assert "8 dropped" in said
        assert "8 failures as 0: " in said
    text = to_markdown(table(a, hard.tolist(), "speaker_similarity"))
    assert "| a - b | speaker similarity ↑, 8 failures as 0 | -0.1" in text


def test_what_failures_confirm_still_holds() -> None:
    a, b = [0.8, 0.81, 0.83, 0.8, 0.82, 0.84, 0.9], [*LOW, None]
    assert found(table(a, b, "speaker_similarity")).startswith("holds")


@pytest.mark.parametrize("reason", ["no_face", "clip_not_given", "scorer_failed"])
def test_a_missing_value_that_nothing_stands_for_leaves_it_open(reason: str) -> None:
    free = Column("lse_d", "LSE-D", "lower")
    made = table([*LOW, None], [*HIGH, 0.9], free, reason)
    assert found(made).startswith("not decided, only one row has a value of 1 clips, and nothing stands for the other")
    both = table([*LOW, None], [*HIGH, None], free, reason)
    assert found(both).startswith("holds")
    assert "1 dropped" in found(both)


def test_a_seed_that_failed_counts_too_without_a_worst_value() -> None:
    free = Column("lse_d", "LSE-D", "lower")
    made = table(LOW, HIGH, free)
    rows = [
        ScoreRow(f"clip{i}", row, f"speaker{i}", seed, {"lse_d": value if ok else None}, {"lse_d": "no_face"})
        for row, values in (("a", LOW), ("b", HIGH))
        for i, value in enumerate(values)
        for seed in range(2)
        for ok in [row == "b" or i or seed]
    ]
    made = build_table(rows, ["a", "b"], [free], [("a", "b")])
    assert made.comparisons[0].difference.n == 6
    assert found(made).startswith("not decided, only one row has a value of 1 clips")


def test_differences_that_are_all_equal_are_judged_by_the_test_alone() -> None:
    said = found(table([0.75] * 6, [0.25] * 6, "speaker_similarity"))
    assert said == ("holds: a is better than b in speaker similarity (+0.500, p = 0.031, n = 6 clips of 6 speakers)")


def around(mean: float, half: float, n: int = 12) -> list[float]:
    """Differences that average to `mean` and scatter by `half`."""
    return [mean + half * (-1) ** i for i in range(n)]


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [
        (around(0.018, 0.05), "not shown, the interval contains the margin"),  # 0.018 worse on a base of 0.042
        (around(0.0, 0.04), "not shown, the interval contains the margin"),
        (around(0.002, 0.005), "holds"),
        (around(-0.02, 0.01), "holds"),
        (around(0.005, 0.001), "holds"),  # worse, but by less than the margin
        (around(0.03, 0.005), "does not hold, it is worse by more than that"),
    ],
)
def test_not_worse_needs_the_whole_interval_on_its_side_of_a_named_margin(gaps: Values, verdict: str) -> None:
    made = table([0.042 + gap for gap in gaps], [0.042] * len(gaps), WER)
    said = found(made, only_not_worse=True)
    assert said.startswith(f"{verdict}: a is not worse than b in WER by more than 0.01 (")


def test_not_worse_follows_the_direction_of_the_column() -> None:
    column = Column("sim", "Sim", "higher", worst=0.0, margin=0.01)
    for sign, verdict in ((1, "holds"), (-1, "does not hold")):
        made = table(around(0.5 + sign * 0.03, 0.005), [0.5] * 12, column)
        assert found(made, only_not_worse=True).startswith(verdict)


def test_without_a_margin_only_what_was_measured_is_said() -> None:
    made = table(around(0.5, 0.001), [0.9] * 12, "speaker_similarity")
    said = found(made, only_not_worse=True)
    assert said.startswith("not judged, no margin is named for speaker similarity: a is not worse than b in speaker")
    assert "(-0.400 [-0.401, -0.399], p < 0.001, n = 12 clips of 12 speakers)" in said


def test_failures_count_in_not_worse_as_well() -> None:
    made = table([*around(0.03, 0.001), None], [*around(0.03, 0.001), 0.03], WER)
    assert found(made, only_not_worse=True).startswith("not shown, without and with failures counted")


def test_findings_are_part_of_the_json_and_refuse_unknown_pairs() -> None:
    made = with_findings(table(HIGH, LOW, "lip_sync"), [Claim("a", "b", "lip_sync")])
    assert made.to_dict()["findings"] == list(made.findings)
    with pytest.raises(ValueError, match="does not compare b with a in lip_sync"):
        with_findings(made, [Claim("b", "a", "lip_sync")])


def test_columns_by_name_have_the_worst_values_and_margins_of_the_cards() -> None:
    from idlora_pl.scorers.registry import CARDS

    for score in (score for card in CARDS.values() for score in card.scores if score.name in COLUMNS):
        column = COLUMNS[score.name]
        assert (column.better, column.worst, column.margin) == (score.better, score.worst, score.margin), score.name
    assert all(column.worst is not None for column in COLUMNS.values())
    assert known_columns()["wer"].margin == 0.01


@pytest.mark.parametrize("n_speakers", [2, 3, 4, 5, 6, 8, 12])
def test_a_finding_is_rarely_wrong_where_rows_do_not_differ(n_speakers: int) -> None:
    # 300 trials: 0.05 and three standard errors are 0.088; docs/scoring.md has 4000 of each
    rng, wrong = np.random.default_rng(n_speakers), 0
    for _ in range(300):
        gaps = np.repeat(rng.normal(size=n_speakers), 2) + rng.normal(size=2 * n_speakers)
        said = found(table(gaps.tolist(), [0.0] * len(gaps), "speaker_similarity", per_speaker=2))
        wrong += said.startswith(("holds", "does not hold"))
    assert wrong / 300 <= (0.088 if n_speakers >= 6 else 0)
