"""``scores.jsonl``: rows go in whole, come out equal, and bad lines are named."""

import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.report import ScoreRow, append_scores, read_scores


def row(key: str = "k1", name: str = "negative", **scores: float | None) -> ScoreRow:
    reasons = {metric: "silent" for metric, value in scores.items() if value is None}
    return ScoreRow(key, name, "s1", seed=0, scores=scores, reasons=reasons, notes={"clip": f"clips/{key}.mp4"})


@given(
    st.builds(
        ScoreRow,
        key=st.text(min_size=1),
        row=st.text(min_size=1),
        speaker=st.text(min_size=1),
        seed=st.none() | st.integers(0, 2**40),
        scores=st.dictionaries(st.sampled_from(["wer", "lip_sync"]), st.floats(-9, 9)),
        reasons=st.dictionaries(st.sampled_from(["face"]), st.text()),
        notes=st.dictionaries(st.sampled_from(["clip", "prompt"]), st.text()),
    )
)
def test_a_row_comes_back_from_its_line(one: ScoreRow) -> None:
    assert "\n" not in one.to_json()
    assert ScoreRow.from_json(one.to_json()) == one


def test_a_line_is_flat_json() -> None:
    line = json.loads(row(wer=None, lip_sync=0.5).to_json())
    assert line == {
        "key": "k1", "row": "negative", "speaker": "s1", "seed": 0, "clip": "clips/k1.mp4",
        "wer": None, "lip_sync": 0.5, "reasons": {"wer": "silent"},
    }  # fmt: skip


def test_appending_twice_keeps_the_order(tmp_path: Path) -> None:
    path = tmp_path / "run" / "scores.jsonl"
    append_scores(path, [row("k1"), row("k2")])
    append_scores(path, [row("k3")])
    assert [one.key for one in read_scores(path)] == ["k1", "k2", "k3"]


def test_a_half_line_is_left_out_and_cut_by_the_next_writer(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    append_scores(path, [row("k1")])
    path.write_text(path.read_text() + '{"key": "k2", "ro')
    with pytest.warns(UserWarning, match="the last line is cut off"):
        assert [one.key for one in read_scores(path)] == ["k1"]
    append_scores(path, [row("k2")])
    assert [one.key for one in read_scores(path)] == ["k1", "k2"]


def append_ten(path: Path, writer: int) -> None:
    for number in range(10):
        append_scores(path, [row(f"{writer}-{number}", wer=0.5)])


def test_two_processes_append_without_mixing_lines(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=append_ten, args=(path, writer)) for writer in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert {one.key for one in read_scores(path)} == {f"{w}-{n}" for w in range(2) for n in range(10)}


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="clip 'k1', row 'negative': wer is nan; write None and a reason"):
        row(wer=float("nan"))
    with pytest.raises(ValueError, match="wer is missing without a reason code"):
        ScoreRow("k1", "negative", "s1", scores={"wer": None})
    with pytest.raises(ValueError, match=r"\['seed'\] named twice"):
        ScoreRow("k1", "negative", "s1", scores={"seed": 1.0})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 2: Expecting value"),
        ("[]", "line 2: a row needs the keys key, row and speaker"),
        (
            '{"key": "k", "row": "r", "speaker": "s", "wer": [1]}',
            r"line 2: wer must be a number, null or text; got \[1\]",
        ),
        ('{"key": "k", "row": "r", "speaker": "s", "wer": null}', "line 2: .* missing without a reason code"),
        (row("k1").to_json(), "clip 'k1' of row 'negative', seed 0, stands in lines 1 and 2; delete one"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(f"{row('k1').to_json()}\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_scores(path)


def test_a_missing_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"scores.jsonl does not exist; `idlora test` writes it"):
        read_scores(tmp_path / "scores.jsonl")
    (tmp_path / "scores.jsonl").touch()
    with pytest.raises(ValueError, match="holds no scores"):
        read_scores(tmp_path / "scores.jsonl")
