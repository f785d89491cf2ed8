"""Tables on a narrow screen, scores that nobody has, pairs on request, and what counts as a failure."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from idlora_pl.cli import main
from idlora_pl.report import Column, ScoreRow, append_scores, build_table, to_markdown, to_rich
from idlora_pl.report.reasons import is_failure
from idlora_pl.report.row import ScorerFacts

METRICS = tuple(f"score_{letter}" for letter in "abcdefghij")
COLUMNS = [Column(name, f"A rather long title of {name}", "higher") for name in METRICS]


def row(key, label, value, reason="", seed=None, names=METRICS):
    reasons = dict.fromkeys(names, reason) if value is None else {}
    return ScoreRow(
        key,
        label,
        key[0],
        seed,
        dict.fromkeys(names, value),
        reasons,
        scorers={"all": ScorerFacts(names, "none", True)},
    )


def printed(table, width):
    console = Console(width=width, file=io.StringIO())
    for part in to_rich(table, console.width):
        console.print(part)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_number_is_cut_off_on_a_narrow_screen(width):
    rows = [row(key, label, value) for label in ("ours", "theirs") for key, value in (("a1", 0.123), ("b1", 0.456))]
    text = printed(build_table(rows, ["ours", "theirs"], COLUMNS), width)
    assert "…" not in text
    assert text.count("[0.123, 0.456]") == 2 * len(METRICS)
    assert max(map(len, text.splitlines())) <= width


def test_a_table_that_fits_is_one_table():
    rows = [row("a1", "ours", 0.1), row("b1", "ours", 0.2)]
    parts = to_rich(build_table(rows, ["ours"], COLUMNS))
    assert [len(part.columns) for part in parts if hasattr(part, "columns")] == [len(METRICS) + 2]


def test_a_score_that_no_clip_has_is_no_column_and_is_named_below(tmp_path, capsys):
    path = tmp_path / "scores.jsonl"
    names = ("spk_sim", "wer_grammar")
    for number, label in enumerate(("ours", "theirs")):
        for key in ("a1", "b1"):
            one = row(key, label, 0.5 + 0.1 * number, names=("spk_sim",))
            facts = one.scorers | {"grammar": ScorerFacts(("wer_grammar",), "none", True)}
            missing = {"wer_grammar": "words_not_in_grammar"}
            append_scores(path, [replace(one, scores=one.scores | {names[1]: None}, reasons=missing, scorers=facts)])
    main(["table", str(path), "--paired", "theirs", "ours"])
    text = " ".join(capsys.readouterr().out.split())
    assert "(wer_grammar): no clip has a value (words_not_in_grammar 4)" in text
    assert "theirs - ours" in text
    assert "ours - theirs" not in text
    assert "failures counted" not in text


def test_rows_to_compare_are_refused_for_a_yaml_which_names_its_own(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text("columns: {wer: {better: lower}}\nrows: []\n")
    with pytest.raises(SystemExit, match="put a, b under its key paired"):
        main(["table", str(path), "--paired", "a", "b"])


def test_what_the_item_lacks_is_no_failure_of_the_method():
    column = Column("wer", "WER", "lower", worst=1.0)
    rows = [
        row("a1", "ours", 0.2, names=("wer",)),
        row("b1", "ours", None, "no_audio", names=("wer",)),
        row("c1", "ours", None, "words_not_in_grammar", names=("wer",)),
        row("d1", "ours", None, "clip_not_given", names=("wer",)),
    ]
    (found,) = build_table(rows, ["ours"], [column]).penalised
    assert (found.n_failed, found.interval.mean, found.interval.n_scored) == (1, pytest.approx(0.6), 2)
    assert not any(map(is_failure, ("target_no_face", "reference_silent", "scorer_failed", "no_style_text")))
    assert all(map(is_failure, ("silent", "no_face", "face_lost", "file_missing", "file_unreadable", "too_short")))


def test_a_seed_that_failed_is_counted_and_said_although_its_clip_has_a_value():
    column = Column("wer", "WER", "lower", worst=1.0)
    rows = [row("a1", "ours", 0.2, seed=0, names=("wer",)), row("a1", "ours", None, "silent", seed=1, names=("wer",))]
    table = build_table(rows, ["ours"], [column])
    assert (table.cell("ours", "wer").mean, table.penalised[0].interval.mean) == (0.2, pytest.approx(0.6))
    assert "ours, wer: 1 generations have no value, their clips have one with other seeds" in to_markdown(table)


def test_intervals_over_few_speakers_come_with_a_warning():
    for n_speakers, warned in {2: True, 5: True, 6: False}.items():
        rows = [row(f"{'abcdef'[k]}1", "ours", 0.1 * k) for k in range(n_speakers)]
        assert ("so few speakers" in to_markdown(build_table(rows, ["ours"], COLUMNS[:1]))) == warned
