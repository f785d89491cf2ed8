"""Tables on a narrow screen, scores that nobody has, pairs on request, and what counts as a failure."""

import io
import math
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from experiments.demo import FULL, PAIRED, ROWS, report
from experiments.demo import METRICS as METRICS_OF_THE_DEMO
from idlora_pl.cli import main
from idlora_pl.report.build import build_table
from idlora_pl.report.formats import to_markdown
from idlora_pl.report.table import Column, Row
from idlora_pl.report.text import (
    cell_parts,
    count_text,
    difference_text,
    p_text,
    reproduction_lines,
    show,
    to_rich,
)
from idlora_pl.results.row import ScorerFacts, ScoreRow, is_failure
from idlora_pl.results.scores_file import append_scores

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
    show(to_rich(table, console.width), console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_number_is_cut_off_on_a_narrow_screen(width):
    rows = [row(key, label, value) for label in ("ours", "theirs") for key, value in (("a1", 0.123), ("b1", 0.456))]
    text = printed(build_table(rows, ["ours", "theirs"], COLUMNS), width)
    assert "…" not in text
    assert text.count("[-1.826, 2.405]") == 2 * len(METRICS)
    assert max(len(line) for line in text.splitlines() if line[:1] in "┏┃┡│└") <= width


@cache
def wide_table():
    """Labels, titles and intervals as long as those of the paper's tables, with pairs and published numbers."""
    names = ("spk_sim", "face_sim", "lse_d", "lse_c", "clap", "wer")
    titles = ("Spk Sim (authors' hybrid)", "Face Sim", "LSE-D", "LSE-C", "CLAP", "WER")
    columns = [Column(name, title, "higher") for name, title in zip(names, titles, strict=True)]
    rows = []
    for label in ("ours", "without_identity_guidance_and_reference"):
        for number in range(35):
            one = row(f"{'abcdefgh'[number % 8]}{number:02}", label, 0.2 + number / 100, names=names)
            if number < 5:
                one = replace(one, scores=one.scores | {"wer": None}, reasons={"wer": "no_audio"})
            facts = {"all": ScorerFacts(names, "none", False)}
            rows.append(replace(one, scorers=facts))
    quoted = {label: Row(label, dict.fromkeys(names, 0.477)) for label in ("ID-LoRA", "ElevenLabs v3 + Wan2.2 [声]")}
    ours = Row("ours", against="ID-LoRA")
    listed = [ours, "without_identity_guidance_and_reference", *quoted.values()]
    return build_table(rows, listed, columns, [("ours", rows[-1].row)], caption="CelebV-HQ hard: see [bold] and [/b]")


def squeezed(*texts):
    return "".join("".join(texts).split())


def columns_of(text):
    """The text of each column of each printed table, without spaces and line breaks."""
    found = []
    for block in re.split("(?=┏)", text)[1:]:
        lines = [line for line in block.splitlines() if line and line[0] in "┃│"]
        assert len({len(re.split("[┃│]", line)) for line in lines}) == 1
        found += [squeezed(*parts) for parts in zip(*(re.split("[┃│]", line) for line in lines), strict=True)][1:-1]
    return found


WIDTHS = [*range(60, 200, 2), *(pytest.param(width, marks=pytest.mark.slow) for width in range(61, 200, 2))]


@pytest.mark.parametrize("width", WIDTHS)
def test_at_every_width_each_line_ends_with_its_border_and_no_cell_is_lost(width):
    table = wide_table()
    text = printed(table, width)
    bordered = [line for line in text.splitlines() if line and line[0] in "┏┃┡│└"]
    assert all((line[0], line[-1]) in {("┏", "┓"), ("┃", "┃"), ("┡", "┩"), ("│", "│"), ("└", "┘")} for line in bordered)
    assert max(map(cell_len, bordered)) <= width
    columns = columns_of(text)
    for row_ in table.rows:
        for column in table.columns:
            wanted = squeezed("".join(cell_parts(table, row_, column)))
            assert any(wanted in found for found in columns)
        assert any(squeezed(count_text(table, row_)) in found for found in columns)  # they differ, and stay a column
    for one in table.comparisons:
        wanted = squeezed(difference_text(one.difference, column_of(table, one.metric)), p_text(one.difference.p))
        assert any(wanted in found for found in columns)
        assert any(squeezed(one.a, "-", one.b) in found for found in columns)
    for line in reproduction_lines(table):
        assert all(any(squeezed(cell) in found for found in columns) for cell in line)


def column_of(table, metric):
    return next(column for column in table.columns if column.metric == metric)


@pytest.mark.parametrize("width", [60, 80, 100, 150, 200])
def test_a_table_is_printed_once_at_every_width(width):
    text = printed(wide_table(), width)
    assert text.count("┏") == text.count("└") == 3  # the table, the pairs, and ours beside the published numbers


def demo_scores():
    """Scores that scatter about zero, so that the ends of most intervals have signs."""
    rng = np.random.default_rng(0)
    facts = {"all": ScorerFacts(METRICS_OF_THE_DEMO, "none", True)}
    for label in ROWS:
        for number in range(96):
            values = {name: float(rng.normal(0.0, 0.3)) for name in METRICS_OF_THE_DEMO}
            yield ScoreRow(f"item-{number:04}", label, f"speaker {number}", 0, values, scorers=facts)


def test_the_last_screen_of_the_demo_fits_in_60_lines_of_100_columns(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    append_scores(tmp_path / "runs/demo/scores.jsonl", demo_scores())
    seconds = {"data": 30.0, "training": 400.0, "sampling": 300.0, "scoring": 50.0}
    report(Path("runs/demo"), FULL, seconds)
    text = capsys.readouterr().out
    assert sum(max(1, math.ceil(cell_len(line) / 100)) for line in text.splitlines()) <= 60
    assert all(
        label in text
        for label in ("no_reference", "negative+identity", "through the codecs", "n = 96/96", "wrote runs")
    )
    pairs = text.split("paired differences, 96 clips of 96 speakers")[1].split("└")[0]
    assert len(re.findall(r"\[[+-][\d.]+,[+-][\d.]+\]", pairs)) == len(PAIRED) * len(METRICS_OF_THE_DEMO)


def test_pairs_on_different_clips_say_on_how_many_each_stands():
    rows = [row(f"{'abcdef'[k]}1", "ours", 0.1 * k, names=("one", "two")) for k in range(6)]
    rows += [row(f"{'abcdef'[k]}1", "theirs", 0.05 * k, names=("one", "two")) for k in range(6)]
    rows[0] = replace(rows[0], scores={"one": 0.5, "two": None}, reasons={"two": "no_audio"})
    columns = [Column(name, name, "higher", worst=0.0) for name in ("one", "two")]
    text = printed(build_table(rows, ["ours", "theirs"], columns, [("ours", "theirs")]), 100)
    pairs = text.split("paired differences")[1].split("└")[0]
    assert "6 clips of 6 speakers" in pairs
    assert "5 clips of 5 speakers, 1 dropped" in pairs
    assert "1 failures as 0:" in pairs


def test_a_table_whose_texts_are_all_too_long_still_keeps_its_borders_and_texts():
    label = "a_row_whose_name_is_one_word_of_more_than_sixty_characters_without_a_break"
    columns = [Column("score_a", "a_title_whose_name_is_one_word_of_more_than_sixty_characters_too", "higher")]
    table = build_table([row("a1", label, 0.1), row("b1", label, 0.2)], [label], columns, [(label, label)])
    text = printed(table, 60)
    assert max(map(cell_len, text.splitlines()[:8])) <= 60
    assert any(label in found for found in columns_of(text))


def test_texts_of_a_yaml_are_no_markup():
    table = replace(wide_table(), caption="see [bold] and [/b]")
    assert "see [bold] and [/b]" in printed(table, 200)


def test_a_command_in_a_note_is_printed_in_one_line():
    command = "idlora predict -c experiments/celebvhq.yaml --model.adapter runs/x/adapter.safetensors --run runs/x"
    text = printed(build_table([], [Row("ours", command=command)], COLUMNS[:1]), 60)
    assert f"run `{command}`" in text


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
        assert ("So few speakers" in to_markdown(build_table(rows, ["ours"], COLUMNS[:1]))) == warned
