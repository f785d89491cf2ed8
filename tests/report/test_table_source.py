"""A folder of runs and a yaml file rebuild a table; what is missing or misspelt is named."""

from pathlib import Path

import pytest
import yaml

from idlora_pl.cli.table import known_columns
from idlora_pl.report.formats import to_markdown
from idlora_pl.report.source import read_table, table_from_yaml
from idlora_pl.report.write import write_report
from idlora_pl.results.row import ScorerFacts, ScoreRow
from idlora_pl.results.scores_file import append_scores

FROZEN = """\
**CelebV-HQ, cross-video split**

| row | Spk Sim ↑ | WER ↓ | n |
| --- | --- | --- | --- |
| Ours | 0.550 [-2.627, 3.727] | 0.25 | 4/4 |
| w/o identity guidance | 0.350 [-1.556, 2.256] | 0.00 [0.00, 0.87] (3/4) | 3-4/4 |
| Kling 2.6 Pro | *0.385* | *0.12* | – |
| shared | – | – | – |

| paired | metric | difference | p | n | speakers | dropped |
| --- | --- | --- | --- | --- | --- | --- |
| Ours - w/o identity guidance | Spk Sim ↑ | +0.200 [-1.071, +1.471] | 0.500 | 4 | 2 | 0 |
| Ours - w/o identity guidance | WER ↓ | +0.17 [-1.33, +1.66] | 1.000 | 3 | 2 | 1 |
| Ours - w/o identity guidance | WER ↓, 1 failures as 1 | +0.00 [-3.18, +3.18] | 1.000 | 4 | 2 | 0 |

- Mean [95 % interval over speakers; exact where every value is 0 or 1, none where all speakers are alike]; \
n is clips scored / items of the row.
- Paired: a - b on the clips that both rows have a value for, p from sign flips over speakers; dropped: clips without \
a value in one or both.
- w/o identity guidance, WER: 0.25 [0.00, 0.94] with 1 failures counted as 1
- So few speakers (2) decide nothing: a sign-flip test needs 6 to come below p = 0.05, and the intervals hold only \
where speakers scatter normally.
- shared: not measured
- Kling 2.6 Pro: quoted from ID-LoRA README
"""


def write_runs(folder: Path) -> Path:
    """A run with two rows of four clips by two speakers."""
    numbers = {
        "celebvhq": [("a1", 0.3, 0.5), ("a2", 0.3, 0.0), ("b1", 0.8, 0.0), ("b2", 0.8, 0.5)],
        "no_identity_guidance": [("a1", 0.2, 0.0), ("a2", 0.2, 0.0), ("b1", 0.5, 0.0), ("b2", 0.5, None)],
    }
    scores = [
        ScoreRow(
            key, row, key[0], 0, {"spk_sim": similarity, "wer": wer},
            {"wer": "silent"} if wer is None else {}, {"clip": f"clips/{row}/{key}.mp4"},
            {"both": ScorerFacts(("spk_sim", "wer"), "none", True)},
        )
        for row, clips in numbers.items()
        for key, similarity, wer in clips
    ]  # fmt: skip
    append_scores(folder / "celebvhq-0123abcd" / "scores.jsonl", scores)
    return folder


def declaration() -> dict:
    return {
        "caption": "CelebV-HQ, cross-video split",
        "columns": {
            "spk_sim": {"title": "Spk Sim", "better": "higher", "digits": 3},
            "wer": {"title": "WER", "better": "lower", "digits": 2},
        },
        "rows": [
            {"label": "Ours", "run": "celebvhq"},
            {"label": "w/o identity guidance", "run": "celebvhq", "sampling": "no_identity_guidance"},
            {
                "label": "Kling 2.6 Pro",
                "quoted": {"spk_sim": 0.385, "wer": 0.121},
                "source": "ID-LoRA README",
            },
            {"label": "shared", "run": "shared"},
        ],
        "paired": [["Ours", "w/o identity guidance"]],
    }


def write_yaml(folder: Path, content: dict) -> Path:
    path = folder / "main.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_runs_folder_reproduces_the_frozen_table(tmp_path: Path) -> None:
    table, _ = table_from_yaml(write_yaml(tmp_path, declaration()), write_runs(tmp_path / "runs"))
    assert to_markdown(table) == FROZEN


def test_clip_paths_lead_to_the_run(tmp_path: Path) -> None:
    _, scores = table_from_yaml(write_yaml(tmp_path, declaration()), write_runs(tmp_path / "runs"))
    assert scores[0].notes["clip"] == str(tmp_path / "runs/celebvhq-0123abcd/clips/celebvhq/a1.mp4")


def test_scores_alone_make_a_table_of_consecutive_pairs(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    for name, value in (("no_reference", 0.0), ("shared", 0.5), ("negative", 0.7)):
        append_scores(path, [ScoreRow(f"{s}1", name, s, scores={"speaker_similarity": value}) for s in "ab"])
    table, scores = read_table(path)
    assert [row.label for row in table.rows] == ["no_reference", "shared", "negative"]
    assert [(one.a, one.b) for one in table.comparisons] == [
        ("shared", "no_reference"),
        ("negative", "shared"),
    ]
    write_report(table, scores, tmp_path)
    assert read_table(path)[0].to_dict() == table.to_dict()


def test_scores_without_a_known_metric_need_a_yaml(tmp_path: Path) -> None:
    append_scores(tmp_path / "scores.jsonl", [ScoreRow("a1", "ours", "a", scores={"lse_d": 7.0})])
    with pytest.raises(ValueError, match="holds lse_d, none of speaker_similarity, .*; name the columns in a table"):
        read_table(tmp_path / "scores.jsonl")


def test_the_hash_of_a_run_decides_when_there_are_two(tmp_path: Path) -> None:
    runs = write_runs(tmp_path / "runs")
    (runs / "celebvhq-89abcdef").mkdir()
    (runs / "celebvhq-other").mkdir()
    with pytest.raises(ValueError, match="'celebvhq' could be celebvhq-0123abcd, celebvhq-89abcdef; write one"):
        table_from_yaml(write_yaml(tmp_path, declaration()), runs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colums": {}}, "unknown key 'colums'; known are caption, columns, command, paired, rows"),
        ({"rows": [{"run": "celebvhq"}]}, r"rows\[0\]: the key 'label' is missing"),
        ({"rows": [{"label": "x"}]}, r"rows\[0\]: give either run or quoted"),
        ({"rows": [{"label": "x", "quoted": {"werr": 1}}]}, "quoted names 'werr', which is no column"),
        ({"rows": [{"label": "x", "run": "celebvhq", "samplin": "y"}]}, "unknown key 'samplin'"),
        ({"columns": {"wer": {"better": "down"}}}, "better must be higher, lower or near zero; got 'down'"),
        ({"columns": {"wer": None}}, "columns.wer: must be a mapping with better; got None"),
        ({"columns": ["spk_sim"]}, r"columns must be a mapping with names as keys, .*; got \['spk_sim'\]"),
        ({"columns": {}}, "main.yaml, columns must be a mapping with names as keys, such as wer: {better: lower}"),
        ({"columns": None}, "columns must be a mapping"),
        ({"columns": {5: {"better": "lower"}}}, "columns must be a mapping with names as keys"),
        ({"columns": {"wer": {"better": ["lower"]}}}, r"columns.wer: better must be higher, .*; got \['lower'\]"),
        ({"columns": {"wer": {"better": "lower", "title": 7}}}, "columns.wer.title must be text; got 7"),
        ({"columns": {"wer": {"better": "lower", "digits": "x"}}}, "columns.wer.digits must be a whole number .* 'x'"),
        ({"columns": {"wer": {"better": "lower", "digits": -1}}}, "digits must be a whole number from 0 to 15; got -1"),
        ({"columns": {"wer": {"better": "lower", "worst": "x"}}}, "columns.wer.worst must be a number; got 'x'"),
        ({"rows": []}, r"main.yaml, rows must be a list, such as \[{label: ours, run: mine}\]; got \[\]"),
        ({"rows": {"label": "a"}}, "rows must be a list"),
        ({"rows": [{"label": 5, "run": "a"}]}, r"rows\[0\], label must be text; got 5; write it in quotes"),
        ({"rows": [{"label": "a", "run": 5}]}, r"rows\[0\], run must be text; got 5"),
        ({"rows": [{"label": "a", "run": "a", "command": ["x"]}]}, r"rows\[0\], command must be text; got \['x'\]"),
        ({"rows": [{"label": "a", "quoted": [1, 2]}]}, r"rows\[0\], quoted must be a mapping .*; got \[1, 2\]"),
        ({"rows": [{"label": "a", "quoted": {"wer": "abc"}}]}, r"rows\[0\], quoted.wer must be a number; got 'abc'"),
        ({"rows": [{"label": "a", "quoted": {"wer": float("nan")}}]}, "quoted.wer must be a number; got nan"),
        ({"rows": [{"label": "a", "run": "a", 5: 1, "z": 2}]}, "unknown key '5'"),
        ({"caption": 5}, "main.yaml, caption must be text; got 5"),
        ({"command": ["x"]}, "main.yaml, command must be text"),
        ({"paired": [["a"]]}, r"main.yaml, paired\[0\] must be a list, such as \[ours, theirs\]; got \['a'\]"),
        ({"paired": ["ab"]}, r"paired\[0\] must be a list"),
        ({"paired": [["Ours", "b"]]}, "main.yaml: paired names the row 'b'; the table has"),
    ],
)
def test_a_bad_declaration_is_named(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table_from_yaml(write_yaml(tmp_path, declaration() | change), write_runs(tmp_path / "runs"))


def test_a_run_may_be_a_path_and_its_name_may_hold_any_character(tmp_path: Path) -> None:
    runs = write_runs(tmp_path / "runs")
    (runs / "celebvhq-0123abcd").rename(runs / "[a]-0123abcd")
    for run in ("[a]", str(runs / "[a]")):
        rows = [{"label": "x", "run": run, "sampling": "celebvhq"}]
        table, _ = table_from_yaml(write_yaml(tmp_path, declaration() | {"rows": rows, "paired": []}), runs)
        assert table.cell("x", "spk_sim").n_scored == 4


def test_a_row_that_the_run_does_not_hold_is_refused_or_asked_for(tmp_path: Path) -> None:
    runs = write_runs(tmp_path / "runs")
    rows = [{"label": "x", "run": "celebvhq", "sampling": "zz"}]
    message = r"row 'zz' is not in .*celebvhq-0123abcd/scores.jsonl; it holds celebvhq, no_identity_guidance$"
    with pytest.raises(ValueError, match=message):
        table_from_yaml(write_yaml(tmp_path, declaration() | {"rows": rows, "paired": []}), runs)
    (runs / "celebvhq-0123abcd").rename(runs / "other")
    rows = [{"label": "x", "run": "other"}]
    with pytest.raises(ValueError, match="holds the rows celebvhq, no_identity_guidance; name one with sampling"):
        table_from_yaml(write_yaml(tmp_path, declaration() | {"rows": rows, "paired": []}), runs)


def test_a_run_that_was_scored_in_part_makes_a_table(tmp_path: Path) -> None:
    content = declaration()
    content["columns"]["lse_d"] = {"title": "LSE-D", "better": "lower"}
    path, runs = write_yaml(tmp_path, content), write_runs(tmp_path / "runs")
    table, _ = read_table(path, runs_dir=runs, known=known_columns())
    assert table.cell("Ours", "lse_d").mean is None
    assert "- LSE-D: no row holds lse\\_d; `idlora score` with its scorer makes it.\n" in to_markdown(table)
    with pytest.raises(ValueError, match="no score is named 'lse_d'; the scores hold spk_sim, wer"):
        read_table(path, runs_dir=runs)


def test_a_missing_row_prints_its_command_or_that_of_the_table(tmp_path: Path) -> None:
    rows = [{"label": "a", "run": "nowhere"}, {"label": "b", "run": "nowhere", "command": "make b"}]
    content = declaration() | {"rows": rows, "paired": [], "command": "make all"}
    text = to_markdown(table_from_yaml(write_yaml(tmp_path, content), tmp_path)[0])
    assert "- a: not measured; run `make all`\n" in text
    assert "- b: not measured; run `make b`\n" in text


def test_other_files_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"table.md is not a table; give a scores.jsonl or a yaml"):
        read_table(tmp_path / "table.md")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ValueError, match=r"folder.yaml is not a table; give a scores.jsonl or a yaml"):
        read_table(tmp_path / "folder.yaml")
    with pytest.raises(ValueError, match=r"nowhere.yaml does not exist; give a scores.jsonl or a yaml"):
        read_table(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("content", [b"rows: [a", b"caption: 2026-13-45", b"[" * 5000])
def test_a_file_that_is_not_yaml_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad.yaml is not yaml .*\(.*\); correct it$") as failure:
        read_table(tmp_path / "bad.yaml")
    assert "\n" not in str(failure.value)
