"""A table refuses rows that cannot be compared, and says where they differ in what does not forbid it."""

from dataclasses import replace

import pytest

from idlora_pl.report.build import build_table
from idlora_pl.report.formats import to_markdown
from idlora_pl.results.row import ScorerFacts, ScoreRow

A, B = "a" * 64, "b" * 64


def rows_of(name: str, scorer: str = "s", weights: str = A, speakers: str = "xyz", **versions: str) -> list[ScoreRow]:
    """Three clips of three speakers."""
    facts = {scorer: ScorerFacts(("wer",), weights, True, versions)} if scorer else {}
    return [
        ScoreRow(f"k{i}", name, speaker, scores={"wer": i / 10}, scorers=facts) for i, speaker in enumerate(speakers)
    ]


def text_of(*rows: list[ScoreRow]) -> str:
    scores = [score for row in rows for score in row]
    return to_markdown(build_table(scores, list(dict.fromkeys(s.row for s in scores)), ["wer"]))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (rows_of("theirs", weights=B), r"\(ours by s, weights aaaaaaaaaaaa; theirs by s, weights bbbbbbbbbbbb\)"),
        (rows_of("theirs", scorer="t"), r"\(ours by s, weights aaaaaaaaaaaa; theirs by t, weights aaaaaaaaaaaa\)"),
    ],
)
def test_a_column_has_one_scorer_with_one_file_of_weights(other: list[ScoreRow], message: str) -> None:
    with pytest.raises(ValueError, match=f"column wer: rows are .* {message}; score .*`idlora score ... --again all`"):
        text_of(rows_of("ours"), other)
    with pytest.raises(ValueError, match="column wer"):
        text_of([*rows_of("ours")[:2], replace(other[2], row="ours")])


def test_rows_that_the_table_does_not_show_may_have_other_weights() -> None:
    scores = rows_of("ours") + rows_of("theirs", weights=B)
    assert build_table(scores, ["ours"], ["wer"]).cell("ours", "wer").n_scored == 3


def test_columns_may_have_different_scorers() -> None:
    both = [
        replace(
            one, scores={**one.scores, "lip_sync": 0.5}, scorers={**one.scorers, "t": ScorerFacts(("lip_sync",), B)}
        )
        for one in rows_of("ours")
    ]
    assert build_table(both, ["ours"], ["wer", "lip_sync"]).cell("ours", "lip_sync").mean == 0.5


def test_other_versions_of_a_package_are_said() -> None:
    text = text_of(rows_of("ours", torch="2.7"), rows_of("theirs", torch="2.8"))
    assert "- wer: rows are scored with different versions of torch (ours with 2.7; theirs with 2.8).\n" in text
    assert "different versions" not in text_of(rows_of("ours", torch="2.7"), rows_of("theirs", torch="2.7"))


def test_rows_without_a_scorer_beside_rows_with_one_are_said() -> None:
    assert "- wer: theirs does not say which scorer" in text_of(rows_of("ours"), rows_of("theirs", scorer=""))
    assert "does not say" not in text_of(rows_of("ours", scorer=""), rows_of("theirs", scorer=""))


@pytest.mark.parametrize("turned", [False, True])
def test_rows_that_name_different_speakers_of_a_clip_are_refused(turned: bool) -> None:
    rows = [rows_of("ours"), rows_of("theirs", speakers="xxz")]
    with pytest.raises(
        ValueError, match="clip 'k1' is of speaker '[xy]' in row '.*' and of '[xy]' in row '.*'; correct"
    ):
        text_of(*(reversed(rows) if turned else rows))


def test_what_rows_differ_in_stands_in_the_json_too() -> None:
    table = build_table(rows_of("ours", torch="1") + rows_of("b", torch="2"), ["ours", "b"], ["wer"])
    assert table.to_dict()["remarks"] == list(table.remarks) != []
