"""Findings: a claim holds only if its whole interval does."""

import pytest

from idlora_pl.report import Claim, ScoreRow, Table, build_table, with_findings


def table(a: list[float], b: list[float], metric: str) -> Table:
    scores = [
        ScoreRow(f"clip{index}", row, f"speaker{index}", 0, {metric: value})
        for row, values in (("a", a), ("b", b))
        for index, value in enumerate(values)
    ]
    return build_table(scores, ["a", "b"], [metric], [("a", "b")])


LOW, HIGH, MIXED = [0.1, 0.12, 0.11, 0.13], [0.8, 0.83, 0.85, 0.81], [0.0, 0.9, 0.1, 0.3]


@pytest.mark.parametrize(
    ("a", "b", "metric", "verdict"),
    [
        (HIGH, LOW, "speaker_similarity", "holds: a is better than b"),
        (LOW, HIGH, "speaker_similarity", "does not hold, the opposite was measured"),
        (LOW, HIGH, "phoneme_error_rate", "holds: a is better than b"),
        (HIGH, LOW, "phoneme_error_rate", "does not hold"),
        (MIXED, LOW, "speaker_similarity", "not shown, the interval contains zero"),
    ],
)
def test_the_verdict_follows_the_interval(a: list[float], b: list[float], metric: str, verdict: str) -> None:
    found = with_findings(table(a, b, metric), [Claim("a", "b", metric)]).findings[0]
    assert found.startswith(verdict)
    assert "n = 4" in found


def test_not_worse_is_refuted_only_by_a_worse_interval() -> None:
    claim = Claim("a", "b", "phoneme_error_rate", only_not_worse=True)
    assert with_findings(table(MIXED, LOW, claim.metric), [claim]).findings[0].startswith("no difference was measured")
    assert with_findings(table(HIGH, LOW, claim.metric), [claim]).findings[0].startswith("does not hold")


def test_findings_are_part_of_the_json_and_refuse_unknown_pairs() -> None:
    made = with_findings(table(HIGH, LOW, "lip_sync"), [Claim("a", "b", "lip_sync")])
    assert made.to_dict()["findings"] == list(made.findings)
    with pytest.raises(ValueError, match="does not compare b with a in lip_sync"):
        with_findings(made, [Claim("b", "a", "lip_sync")])
