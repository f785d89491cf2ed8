"""``scores.jsonl``: rows go in whole, come out equal, and bad lines are named."""

import json
import multiprocessing
import threading
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idlora_pl.results.row import Curve, ScorerFacts, ScoreRow
from idlora_pl.results.scores_file import append_scores, drop_scores, read_scores, replace_scores


def row(key: str = "k1", name: str = "negative", **scores: float | None) -> ScoreRow:
    reasons = {metric: "silent" for metric, value in scores.items() if value is None}
    return ScoreRow(key, name, "s1", seed=0, scores=scores, reasons=reasons, notes={"clip": f"clips/{key}.mp4"})


FACTS = st.builds(
    ScorerFacts,
    scores=st.just(("wer", "cer")),
    weights=st.sampled_from(["", "0123abcd"]),
    verified=st.booleans(),
    versions=st.dictionaries(st.sampled_from(["torch", "av"]), st.text()),
    details=st.dictionaries(st.sampled_from(["crop", "heard"]), st.text()),
    curves=st.dictionaries(
        st.sampled_from(["offset"]),
        st.builds(
            Curve,
            st.floats(0, 9),
            st.floats(0.1, 9),
            st.lists(st.none() | st.floats(-9, 9)).map(tuple),
            st.lists(st.integers(0, 9)).map(tuple),
        ),
    ),
)
ROWS = st.builds(
    ScoreRow,
    key=st.text(min_size=1),
    row=st.text(min_size=1),
    speaker=st.text(min_size=1),
    seed=st.none() | st.integers(0, 2**40),
    scores=st.fixed_dictionaries(
        {"wer": st.floats(-9, 9), "cer": st.none()}, optional={"lip_sync": st.none() | st.floats(-9, 9)}
    ),
    reasons=st.fixed_dictionaries({"cer": st.text(), "lip_sync": st.text()}, optional={"face": st.text()}),
    notes=st.dictionaries(st.sampled_from(["clip", "prompt"]), st.text()),
    scorers=st.dictionaries(st.just("words"), FACTS, max_size=1),
)


@settings(max_examples=25)  # each writes a file and waits for the disk
@given(ROWS)
def test_a_row_comes_back_from_its_lines(one: ScoreRow) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "scores.jsonl"
        append_scores(path, [one])
        assert len(path.read_text().splitlines()) == max(1, len(one.scorers) + (not one.scorers or len(one.scores) > 2))
        (found,) = read_scores(path)
    assert found == one


def scored_by(scorer: str, weights: str = "aa", key: str = "k1", sha: str = "11", **scores: float) -> ScoreRow:
    return ScoreRow(
        key, "negative", "s1", 0, dict(scores), notes={"clip_sha256": sha},
        scorers={scorer: ScorerFacts(tuple(scores), weights, verified=scorer == "words")},
    )  # fmt: skip


def test_lines_of_one_clip_become_one_row(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    append_scores(path, [scored_by("words", wer=0.5), scored_by("words", key="k2", wer=0.0)])
    append_scores(path, [scored_by("lips", lse_d=7.0, lse_c=3.0)])
    one, two = read_scores(path)
    assert (one.key, one.scores) == ("k1", {"wer": 0.5, "lse_d": 7.0, "lse_c": 3.0})
    assert (one.is_verified("wer"), one.is_verified("lse_c"), one.is_verified("cer")) == (True, False, False)
    assert one.facts("lse_d").weights == "aa"
    assert two.scores == {"wer": 0.0}
    line = json.loads(path.read_text().splitlines()[0])
    assert line == {
        "key": "k1", "row": "negative", "speaker": "s1", "seed": 0, "scorer": "words", "scores": {"wer": 0.5},
        "reasons": {}, "notes": {"clip_sha256": "11"}, "weights": "aa", "verified": True,
    }  # fmt: skip


def test_lines_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    def written(*rows: ScoreRow) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        append_scores(path, rows)
        return path

    words = scored_by("words", wer=0.5)
    with pytest.raises(ValueError, match="wer of clip 'k1' of row 'negative', seed 0, stands in lines 1 and 2"):
        read_scores(written(words, scored_by("other_words", wer=0.5)))
    with pytest.raises(
        ValueError, match="line 2: clip 'k1' of row 'negative' has clip_sha256 22, an earlier line has 11"
    ):
        read_scores(written(words, scored_by("lips", sha="22", lse_d=7.0)))
    with pytest.raises(ValueError, match="row 'negative' holds scores of words with weights aa and bb; score the row"):
        read_scores(written(words, scored_by("words", "bb", key="k2", wer=0.5)))
    assert len(read_scores(written(words, replace(scored_by("words", "bb", key="k2", wer=0.5), row="other")))) == 2


def test_lines_are_dropped_by_choice(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    append_scores(
        path, [scored_by("words", wer=0.5), scored_by("lips", lse_d=7.0), scored_by("words", key="k2", wer=1)]
    )
    assert drop_scores(path, lambda row: "words" in row.scorers and row.key == "k1") == 1
    assert [(row.key, list(row.scores)) for row in read_scores(path)] == [("k1", ["lse_d"]), ("k2", ["wer"])]
    assert drop_scores(path, lambda row: False) == 0
    assert [one.name for one in tmp_path.iterdir()] == ["scores.jsonl"]


def test_what_others_append_while_lines_are_dropped_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    append_scores(path, [row("k1")])
    looking, appended = threading.Event(), threading.Event()

    def slowly(_line: ScoreRow) -> bool:
        looking.set()
        appended.wait(0.5)
        return True

    def append() -> None:
        looking.wait(5)
        append_scores(path, [row("k2")])
        appended.set()

    other = threading.Thread(target=append)
    other.start()
    assert drop_scores(path, slowly) == 1
    other.join()
    assert [one.key for one in read_scores(path)] == ["k2"]
    assert [one.name for one in tmp_path.iterdir()] == ["scores.jsonl"]


def test_scores_that_are_made_again_take_the_place_of_the_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "run/scores.jsonl"
    lips = scored_by("lips", lse_d=7.0)
    replace_scores(path, [scored_by("words", wer=0.5), scored_by("words", key="k2", wer=1.0), lips])
    path.write_text(path.read_text() + "damaged\n")
    replace_scores(path, [scored_by("words", wer=0.25)])
    lines = path.read_text().splitlines()
    assert lines[2] == "damaged"
    path.write_text("".join(line + "\n" for line in lines if line != "damaged"))
    assert [(one.key, one.scores) for one in read_scores(path)] == [
        ("k2", {"wer": 1.0}),
        ("k1", {"lse_d": 7.0, "wer": 0.25}),
    ]
    replace_scores(path, [row("k9")])
    replace_scores(path, [row("k9"), replace(row("k9"), seed=1)])
    assert [(one.key, one.seed) for one in read_scores(path)[2:]] == [("k9", 0), ("k9", 1)]


def test_flat_lines_of_older_versions_are_read(tmp_path: Path) -> None:
    flat = {
        "key": "k1", "row": "negative", "speaker": "s1", "seed": 0, "clip": "clips/k1.mp4",
        "wer": None, "lip_sync": 0.5, "reasons": {"wer": "silent"},
    }  # fmt: skip
    (tmp_path / "scores.jsonl").write_text(json.dumps(flat) + "\n")
    append_scores(tmp_path / "scores.jsonl", [scored_by("words", cer=0.5)])
    (found,) = read_scores(tmp_path / "scores.jsonl")
    assert found.scores == {"wer": None, "lip_sync": 0.5, "cer": 0.5}
    assert (found.reasons, found.notes["clip"]) == ({"wer": "silent"}, "clips/k1.mp4")


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


LINE = json.loads(scored_by("words", wer=0.5).to_lines()[0])


def test_a_whole_last_line_counts_without_its_line_end(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "scores.jsonl"
    append_scores(path, [row("k1"), row("k2")])
    path.write_text(path.read_text().rstrip("\n"))
    assert [one.key for one in read_scores(path)] == ["k1", "k2"]
    append_scores(path, [row("k3")])
    assert [one.key for one in read_scores(path)] == ["k1", "k2", "k3"]
    path.write_text(path.read_text().rstrip("\n"))
    assert drop_scores(path, lambda one: one.key == "k1") == 1
    assert [one.key for one in read_scores(path)] == ["k2", "k3"]
    assert not recwarn.list


@pytest.mark.parametrize("length", [10, 1 << 16, (1 << 16) + 7, 3 << 16])
@pytest.mark.parametrize("is_whole", [True, False])
def test_a_last_line_of_any_length_is_ended_or_cut(tmp_path: Path, length: int, is_whole: bool) -> None:
    path = tmp_path / "scores.jsonl"
    long = replace(row("k2"), notes={"prompt": "a" * length}).to_lines()[0]
    path.write_text(row("k1").to_lines()[0] + "\n" + (long if is_whole else long[:-1]))
    append_scores(path, [row("k3")])
    assert [one.key for one in read_scores(path)] == ["k1", *["k2"] * is_whole, "k3"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": {"wer": "0.5"}}, "wer must be a number or null; got '0.5'"),
        ({"scores": {"wer": True}}, "wer must be a number or null; got True"),
        ({"scores": {"wer": [0.5]}}, r"wer must be a number or null; got \[0.5\]"),
        ({"scores": {"wer": 10**400}}, "wer must be a number or null; got one of 401 digits"),
        ({"scores": None}, "scores must be an object, .*; got None"),
        ({"reasons": None}, "reasons must be an object, .*; got None"),
        ({"reasons": {"wer": None}}, "reasons of wer must be text; got None"),
        ({"notes": None}, "notes must be an object, .*; got None"),
        ({"notes": {"clip": 5}}, "notes of clip must be text; got 5"),
        ({"key": None}, "key must be text; got None"),
        ({"row": ""}, "row must be text; got ''"),
        ({"speaker": True}, "speaker must be text; got True"),
        ({"seed": "0"}, "seed must be a whole number or null; got '0'"),
        ({"seed": 0.5}, "seed must be a whole number or null; got 0.5"),
        ({"scorer": 5}, "scorer must be text or null; got 5"),
        ({"weights": None}, "weights must be text and verified true or false; got None"),
        ({"verified": "false"}, "weights must be text and verified true or false; .* 'false'"),
        ({"versions": None}, "versions must be an object, .*; got None"),
        ({"details": {"heard": None}}, "details of heard must be text; got None"),
        (
            {"curves": {"lag": {"start_s": 0, "step_s": 1, "values": ["0.5"]}}},
            "lag must be a number or null; got '0.5'",
        ),
        ({"curves": {"lag": {"start_s": 0, "step_s": 1, "values": None}}}, "the line is damaged"),
        ({"curves": None}, "curves must be an object, .*; got None"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_its_name(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(json.dumps(LINE | change) + "\n")
    with pytest.raises(ValueError, match=f"scores.jsonl, line 1: {message}"):
        read_scores(path)


@pytest.mark.parametrize("value", ["0.5", "nan", True, [1]])
def test_a_flat_line_of_an_older_version_is_no_more_lenient(tmp_path: Path, value: object) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(json.dumps({"key": "k", "row": "r", "speaker": "s", "wer": value}) + "\n")
    with pytest.raises(ValueError, match="line 1: wer must be a number"):
        read_scores(path)
    path.write_text(json.dumps({"key": "k", "row": "r", "speaker": "s", "wer": 1.0, "reasons": None}) + "\n")
    with pytest.raises(ValueError, match="line 1: reasons must be an object"):
        read_scores(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
)


@settings(max_examples=200)
@given(st.sampled_from([*LINE, "curves", "details", "versions"]), JSON)
def test_whatever_a_line_holds_it_is_a_row_or_refused(name: str, value: object) -> None:
    try:
        found = ScoreRow.from_line(json.dumps(LINE | {name: value}))
    except ValueError:
        return  # any other error would be a traceback for the user
    lines = found.to_lines()
    assert len(lines) == 1
    assert ScoreRow.from_line(lines[0]) == found


def append_ten(path: Path, writer: int) -> None:
    for number in range(10):
        append_scores(path, [row(f"{writer}-{number}", wer=0.5)])


@pytest.mark.slow
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
        ("not json", "line 2: the line is not JSON .Expecting value"),
        (
            row("k1", wer=0.1).to_lines()[0].replace('"wer": 0.1', '"wer": 0.1, "wer": 0.7'),
            "line 2: the line is not JSON .the key 'wer' is there twice.; correct it",
        ),
        ("[" * 100_000, "line 2: the line is not JSON that can be read .nested too deeply"),
        ('{"key": "k", "row": "r", "speaker": "s", "scorer": "x"}', "line 2: the line is damaged .KeyError"),
        ("[]", "line 2: a row needs the keys key, row and speaker"),
        (
            '{"key": "k", "row": "r", "speaker": "s", "wer": [1]}',
            r"line 2: wer must be a number, null or text; got \[1\]",
        ),
        ('{"key": "k", "row": "r", "speaker": "s", "wer": null}', "line 2: .* missing without a reason code"),
        (
            row("k1").to_lines()[0],
            "clip 'k1' of row 'negative', seed 0, stands in lines 1 and 2; delete one, or score .* --again all",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(f"{row('k1').to_lines()[0]}\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_scores(path)


def test_the_file_is_read_as_every_text_is(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    append_scores(path, [row("k1", wer=0.1), row("zoë", wer=0.2)])
    held = path.read_text().replace("zo\\u00eb", "zoë").replace("\n", "\r\n\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + held.encode())
    assert [one.key for one in read_scores(path)] == ["k1", "zoë"]
    assert drop_scores(path, lambda one: one.key == "k1") == 1
    assert [one.key for one in read_scores(path)] == ["zoë"]
    for encoding in ("latin-1", "utf-16"):
        path.write_bytes(held.encode(encoding))
        with pytest.raises(ValueError, match="scores.jsonl is not UTF-8 text.*; save it as UTF-8"):
            read_scores(path)


def test_a_missing_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"scores.jsonl does not exist; `idlora test` and `idlora score` write it"):
        read_scores(tmp_path / "scores.jsonl")
    (tmp_path / "scores.jsonl").touch()
    with pytest.raises(ValueError, match="holds no scores"):
        read_scores(tmp_path / "scores.jsonl")
