"""Making a study, answering it, and analysing the answers."""

import csv
import json

import pytest
import yaml
from scipy.stats import binomtest

from idlora_pl.cli import main

ITEMS = ["item1", "item2", "item3", "item4"]


@pytest.fixture
def clips(tmp_path):
    """Folders of three methods and of references; the page never opens the files, it copies them."""
    for folder in ("ours", "kling", "other", "voices"):
        (tmp_path / folder).mkdir()
        for item in ITEMS:
            (tmp_path / folder / f"{item}.mp4").write_bytes(f"{folder} {item}".encode())
    return tmp_path


def make(clips, kind, *more, methods=("ours", "kling")):
    given = [word for name in methods for word in ("--method", f"{name}={clips / name}")]
    main(["study", "make", str(clips / "study"), "--kind", kind, *given, "--raters", "4", *more])
    key = json.loads((clips / "study" / "key.json").read_text())
    page = (clips / "study" / "page" / "index.html").read_text()
    held = page.split('type="application/json">')[1].split("</script>")[0]
    return key, json.loads(held), page


def answer(clips, key, plan, choose, raters=None):
    """Write the files of raters who answer as `choose(rater, item, methods left to right)` says."""
    folder = clips / "answers"
    folder.mkdir(exist_ok=True)
    for rater in raters or plan["raters"]:
        answers = []
        for shown in plan["raters"][rater]:
            trial = key["trials"].get(shown["id"])
            for question in plan["questions"]:
                if trial is None:
                    given = shown["ask"]
                else:
                    sides = key["sides"][rater].get(shown["id"]) if key["kind"] == "ab" else trial["methods"]
                    given = choose(rater, trial["item"], sides)
                answers.append({"trial": shown["id"], "question": question, "answer": given, "seconds": 3.0})
        file = {"study": plan["study"], "rater": rater, "answers": answers}
        (folder / f"answers-{rater}.json").write_text(json.dumps(file))
    return folder


def analyse(clips, capsys, *more):
    main(["study", "analyse", str(clips / "study"), "--output", str(clips / "found.json"), *more])
    return json.loads((clips / "found.json").read_text()), capsys.readouterr().out


def side_of(method):
    return lambda _rater, _item, sides: "left" if sides[0] == method else "right"


def test_raters_see_every_trial_once_and_each_side_equally_often(clips):
    key, plan, _ = make(clips, "ab")
    for rater, shown in plan["raters"].items():
        assert sorted(one["id"] for one in shown if "ask" not in one) == sorted(key["trials"])
        assert sum("ask" in one for one in shown) == 2
        assert key["sides"][rater].keys() == key["trials"].keys()
    for trial in key["trials"]:
        assert [key["sides"][rater][trial][0] for rater in plan["raters"]].count("ours") == 2
    orders = [[one["id"] for one in shown if "ask" not in one] for shown in plan["raters"].values()]
    assert len({tuple(order) for order in orders}) > 1


def test_the_page_shows_what_the_key_says_and_names_no_method(clips):
    key, plan, page = make(clips, "ab", "--reference", str(clips / "voices"))
    folder = clips / "study" / "page" / "clips"
    for rater, shown in plan["raters"].items():
        for one in shown:
            if "ask" in one:
                continue
            item = key["trials"][one["id"]]["item"]
            found = [(folder / name).read_text() for name in one["clips"]]
            assert found == [f"{method} {item}" for method in key["sides"][rater][one["id"]]]
            assert (folder / one["reference"]).read_text() == f"voices {item}"
    assert not any(word in page for word in ("kling", "item1", str(clips)))


def test_a_study_is_a_function_of_its_seed(clips):
    first = make(clips, "ab")[:2]
    (clips / "study").rename(clips / "old")
    assert make(clips, "ab")[:2] == first
    (clips / "study").rename(clips / "old2")
    assert make(clips, "ab", "--seed", "1")[:2] != first


def test_whoever_prefers_one_method_is_found_to_whichever_side_it_stood_on(clips, capsys):
    key, plan, _ = make(clips, "ab", methods=("ours", "kling", "other"))
    given = answer(clips, key, plan, lambda r, i, sides: "tie" if "other" in sides else side_of("ours")(r, i, sides))
    found, said = analyse(clips, capsys, "--answers", str(given))
    rows = {(row["comparison"], row["question"]): row["found"] for row in found["preferences"]}
    assert len(rows) == 6
    won, tied = rows["ours vs kling", "voice"], rows["ours vs other", "voice"]
    assert (won["wins"], won["ties"], won["losses"]) == (16, 0, 0)
    # four items and four raters of one opinion count as two independent answers, not as 16
    assert (won["p"], won["n_items"], won["n_raters"]) == (pytest.approx(2 / 2**2), 4, 4)
    assert (won["low"], won["high"]) == (pytest.approx(0.025 ** (1 / 2)), 1)
    assert (tied["wins"], tied["ties"], tied["p"]) == (0, 16, None)
    assert "4 raters of 4 count; 0 of their answers are missing." in said


def test_inattentive_raters_are_left_out_and_named(clips, capsys):
    key, plan, _ = make(clips, "ab")
    given = answer(clips, key, plan, side_of("ours"))
    path = given / "answers-r02.json"
    file = json.loads(path.read_text())
    for one in file["answers"]:
        if one["trial"] in key["attention"]:
            one["answer"] = "tie"
    path.write_text(json.dumps(file))
    found, said = analyse(clips, capsys, "--answers", str(given))
    assert found["preferences"][0]["found"]["wins"] == 12
    assert "Rater r02 is left out: 2 attention screens failed or not answered." in said
    found, _ = analyse(clips, capsys, "--answers", str(given), "--failures_allowed", "2")
    assert found["preferences"][0]["found"]["wins"] == 16


def test_opinion_scores_come_with_their_difference_and_agreement(clips, capsys):
    key, plan, _ = make(clips, "mos")
    given = answer(clips, key, plan, lambda _r, _i, methods: "5" if methods[0] == "ours" else "3")
    found, said = analyse(clips, capsys, "--answers", str(given))
    overall = found["sound"][-1]
    assert overall["scenario"] == "overall"
    assert (overall["scores"]["ours"]["mean"], overall["scores"]["kling"]["mean"]) == (5, 3)
    assert overall["gap"][0] == 2
    assert overall["alpha"] == 1
    assert "Mean opinion score: sound" in said


def test_missing_answers_are_counted(clips, capsys):
    key, plan, _ = make(clips, "ab")
    given = answer(clips, key, plan, side_of("ours"), raters=["r01", "r03"])
    path = given / "answers-r01.json"
    file = json.loads(path.read_text())
    kept = [one for one in file["answers"] if one["trial"] in key["attention"]]
    path.write_text(json.dumps(file | {"answers": kept}))
    _, said = analyse(clips, capsys, "--answers", str(given))
    assert "2 raters of 4" not in said
    assert "1 raters of 4 count; 12 of their answers are missing." in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file | {"study": "0" * 12}, "answers of study 000000000000"),
        (lambda file: file | {"rater": "r99"}, "rater 'r99' is none of r01"),
        (lambda file: file | {"answers": [file["answers"][0] | {"answer": "up"}]}, "has the answer 'up'"),
        (lambda file: file | {"answers": [file["answers"][0] | {"trial": "x"}]}, "no trial 'x'"),
        (lambda file: file | {"answers": file["answers"][:1] * 2}, "twice"),
        (lambda file: [], "no answer file"),
        (lambda file: file | {"answers": 5}, "answers must be a list"),
        (lambda file: file | {"answers": None}, "answers must be a list"),
        (lambda file: file | {"answers": {"a": 1}}, "answers must be a list"),
        (lambda file: file | {"answers": [1]}, "must have trial, question and answer as text; got 1"),
        (lambda file: file | {"answers": [{}]}, "must have trial, question and answer as text; got {}"),
        (lambda file: file | {"answers": [file["answers"][0] | {"trial": {}}]}, "must have trial, question and answer"),
        (lambda file: file | {"answers": [file["answers"][0] | {"answer": ["left"]}]}, "must have trial, question"),
        (lambda file: file | {"rater": ["r01"]}, "rater ['r01'] is none of r01"),
    ],
)
def test_answers_that_cannot_be_are_refused_with_the_file_named(clips, change, said):
    key, plan, _ = make(clips, "ab")
    given = answer(clips, key, plan, side_of("ours"))
    path = given / "answers-r01.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(SystemExit) as stopped:
        main(["study", "analyse", str(clips / "study"), "--answers", str(given)])
    assert said in str(stopped.value)
    assert str(path) in str(stopped.value)


@pytest.mark.parametrize(("text", "said"), [("{", "is not JSON"), ("[" * 100_000, "nested too deeply")])
def test_an_answer_file_that_is_no_json_is_named(clips, text, said):
    key, plan, _ = make(clips, "ab")
    path = answer(clips, key, plan, side_of("ours")) / "answers-r01.json"
    path.write_text(text)
    with pytest.raises(SystemExit, match=said) as stopped:
        main(["study", "analyse", str(clips / "study"), "--answers", str(path.parent)])
    assert str(path) in str(stopped.value)


def test_every_part_of_a_key_that_is_wrong_is_named(clips):
    key, plan, _ = make(clips, "ab")
    given, path = answer(clips, key, plan, side_of("ours")), clips / "study" / "key.json"
    first = next(iter(key["trials"]))
    wrong = {
        "{": "is not JSON",
        "{}": "'study' is missing",
        "[]": "it must be an object",
        json.dumps(key | {"kind": "abc"}): "'kind' must be ab or mos; got 'abc'",
        json.dumps(key | {"trials": {first: {"item": 5}}}): f"trial '{first}' must have an item and its methods",
        json.dumps(key | {"sides": {"r01": {}}}): "'sides' of rater 'r01' do not hold the methods of trial",
        json.dumps(key | {"attention": {"x": ["left"]}}): "'attention' asks for ['left']",
    }
    for text, said in wrong.items():
        path.write_text(text)
        with pytest.raises(SystemExit) as stopped:
            main(["study", "analyse", str(clips / "study"), "--answers", str(given)])
        assert said in str(stopped.value)
        assert "key.json" in str(stopped.value)
        assert "restore the file that `idlora study make` wrote" in str(stopped.value)


def test_an_attention_screen_without_an_answer_is_failed(clips, capsys):
    key, plan, _ = make(clips, "ab")
    given = answer(clips, key, plan, side_of("ours"))
    path = given / "answers-r02.json"
    file = json.loads(path.read_text())
    screens = [one for one in file["answers"] if one["trial"] in key["attention"]]
    kept = [one for one in file["answers"] if one not in screens]
    path.write_text(json.dumps(file | {"answers": kept}))
    _, said = analyse(clips, capsys, "--answers", str(given))
    assert "Rater r02 is left out: 2 attention screens failed or not answered." in said
    path.write_text(json.dumps(file | {"answers": [*kept, *screens[:-1]]}))
    _, said = analyse(clips, capsys, "--answers", str(given))
    assert "Rater r02 is left out: 1 attention screens failed or not answered." in said


def test_a_test_over_one_item_is_no_test(clips, capsys):
    key, plan, _ = make(clips, "mos")
    better = {"r01": "5", "r02": "4", "r03": "4", "r04": "5"}
    given = answer(clips, key, plan, lambda r, i, m: better[r] if (m[0], i) != ("kling", "item1") else "3")
    found, said = analyse(clips, capsys, "--answers", str(given))
    assert [row["p"] for row in found["sound"]][:-1] == [None] * len(ITEMS)
    assert 0.05 < found["sound"][-1]["p"] < 1
    assert found["sound"][-1]["gap"][1] < 0 < found["sound"][-1]["gap"][2]
    assert "With one item or one rater there is no interval and no p" in said
    assert "interval over items and raters, as if both were drawn anew" in said


def test_names_and_titles_are_no_markup(clips, capsys):
    (clips / "ours").rename(clips / "[b]")
    key, plan, _ = make(clips, "mos", "--question", "[x]=How?", methods=("[b]", "kling"))
    given = answer(clips, key, plan, lambda _r, _i, _m: "5")
    _, said = analyse(clips, capsys, "--answers", str(given))
    assert "Mean opinion score: [x]" in said
    assert "[b]" in said
    path = published(clips, "ab", n=[4, 4], shares={"[c]": {"[d]": [75, 0, 25]}}, source="[/b]")
    main(["table", str(path)])
    said = capsys.readouterr().out
    assert all(text in said for text in ("[c]", "[d]", "Quoted from [/b]."))


def test_items_that_not_every_method_has_are_refused_or_named(clips, capsys):
    (clips / "kling" / "item4.mp4").unlink()
    with pytest.raises(SystemExit, match="1 items are not in every method, such as 'item4'"):
        make(clips, "ab")
    key, _, _ = make(clips, "ab", "--common_only")
    assert key["left_out"] == ["item4"]
    assert "left out, because not every method has them: item4" in capsys.readouterr().out


def test_a_study_never_replaces_another(clips):
    make(clips, "ab")
    with pytest.raises(SystemExit, match="already holds something; give a new folder, or move this one away"):
        make(clips, "ab")


def test_published_shares_come_out_as_published_and_their_p_values_are_those_of_independent_answers(capsys, tmp_path):
    main(["study", "analyse", "experiments/tables/human_ab.yaml", "--output", str(tmp_path / "ab.json")])
    rows = json.loads((tmp_path / "ab.json").read_text())["published"]
    assert [row["published"] for row in rows][:3] == [[73, 7, 20], [55, 24, 21], [65, 4, 31]]
    assert sum(row["p_worst"] < 1e-7 for row in rows) == 5
    said = " ".join(capsys.readouterr().out.split())
    assert "even a two-sided sign test that takes all answers for independent gives 0.007 to 0.016" in said
    assert {(row["found"]["p"], row["found"]["low"]) for row in rows} == {(None, None)}


def test_published_opinion_scores_come_out_as_published(capsys, tmp_path):
    main(["study", "analyse", "experiments/tables/human_mos.yaml", "--output", str(tmp_path / "mos.json")])
    rows = json.loads((tmp_path / "mos.json").read_text())["published"]
    assert rows[-1]["scores"]["ours"]["mean"] == 3.05
    assert rows[-1]["scores"]["ours"]["published_half_width"] == 0.12
    said = capsys.readouterr().out
    assert "ours ahead of Kling 2.6 Pro in 8 of 10 scenarios, by +0.15 on average" in said
    assert "paired t-test over scenarios p = 0.54, sign test p = 0.11" in said
    assert "z-test" not in said


def published(folder, kind, **content):
    """Write a yaml of published results that names the study in `folder`."""
    path = folder / f"{kind}.yaml"
    path.write_text(
        yaml.safe_dump({"kind": kind, "title": "t", "source": "s", "run": "study", **content}, sort_keys=False)
    )
    return path


def test_our_study_stands_beside_the_published_shares(clips, capsys):
    key, plan, _ = make(clips, "ab")
    best = {"item1": "ours", "item2": "ours", "item3": "kling", "item4": "ours"}
    folder = answer(clips, key, plan, lambda _rater, item, sides: "left" if sides[0] == best[item] else "right")
    folder.rename(clips / "study" / "answers")
    shares = {"vs Kling": {"voice": [75, 0, 25], "manner": [1, 0, 99]}, "vs nobody": {"voice": [50, 0, 50]}}
    path = published(clips, "ab", n=[4, 4], shares=shares, methods={"kling": "vs Kling"})
    main(["table", str(path), "--runs", str(clips), "--output", str(clips / "out")])
    found = json.loads((clips / "out/table.json").read_text())["ours"]
    assert [(one["what"], one["question"], one["ours"], one["covered"], one["n"]) for one in found] == [
        ("vs Kling", "voice", 0.75, True, 16),
        ("vs Kling", "manner", 0.75, False, 16),
        ("vs nobody", "voice", None, None, 0),
    ]
    assert "4 raters count; 0 of their answers are missing." in capsys.readouterr().out


def test_our_opinion_scores_stand_beside_the_published_means(clips, capsys):
    key, plan, _ = make(clips, "mos")
    best = {"item1": "4", "item2": "5", "item3": "3", "item4": "4"}
    folder = answer(
        clips, key, plan, lambda r, i, m: (best[i] if (r, i) != ("r01", "item3") else "5") if m == ["ours"] else "3"
    )
    folder.rename(clips / "study" / "answers")
    scores = {"item1": {"ours": [3.5, 0.3], "Kling": [3.0, 0.3]}, "overall": {"ours": [4.0, 0.1], "Kling": [2.0, 0.1]}}
    path = published(clips, "mos", n={"each": 4, "overall": 16}, scores=scores, methods={"kling": "Kling"})
    main(["study", "analyse", str(path), "--runs", str(clips), "--output", str(clips / "found.json")])
    found = json.loads((clips / "found.json").read_text())["ours"]
    assert [(one["what"], one["question"], one["ours"], one["covered"], one["n"]) for one in found] == [
        ("item1", "ours", 4.0, None, 4),  # one item has no interval over items
        ("item1", "Kling", 3.0, None, 4),
        ("overall", "ours", 4.125, True, 16),
        ("overall", "Kling", 3.0, None, 16),  # all answers are alike
    ]
    capsys.readouterr()


def test_a_study_of_the_other_kind_is_refused_and_a_missing_one_is_a_dash_with_its_command(clips, capsys):
    make(clips, "mos")
    path = published(clips, "ab", n=[4, 4], shares={"vs Kling": {"voice": [75, 0, 25]}}, command="make study")
    with pytest.raises(SystemExit, match="run 'study' is a study of kind mos, the table is of ab"):
        main(["table", str(path), "--runs", str(clips)])
    capsys.readouterr()
    main(["table", str(path), "--runs", str(clips / "elsewhere")])
    assert "ours: –, not measured; run `make study`" in capsys.readouterr().out


def test_a_study_without_answers_is_a_dash_and_says_where_to_collect_them(clips, capsys):
    make(clips, "ab")
    path = published(clips, "ab", n=[4, 4], shares={"vs Kling": {"voice": [75, 0, 25]}}, command="make study")
    capsys.readouterr()
    for _ in range(2):
        main(["table", str(path), "--runs", str(clips)])
        said = capsys.readouterr().out
        assert f"ours: –, not measured; collect answers into {clips / 'study' / 'answers'}" in said
        assert "Quoted from s." in said
        (clips / "study" / "answers").mkdir(exist_ok=True)


def test_the_tables_of_a_study_are_written_as_text_and_as_data(clips, capsys):
    key, plan, _ = make(clips, "mos")
    answer(clips, key, plan, lambda r, i, methods: "4" if methods == ["ours"] else "3").rename(clips / "study/answers")
    scores = {"item1": {"ours": [3.5, 0.3], "K_2": [3.0, 0.3]}, "overall": {"ours": [4.0, 0.1], "K_2": [2.0, 0.1]}}
    path = published(clips, "mos", n={"each": 4, "overall": 16}, scores=scores, methods={"kling": "K_2"})
    main(["table", str(path), "--runs", str(clips), "--output", str(clips / "out")])
    out = clips / "out"
    assert {one.name for one in out.iterdir()} == {
        *(f"table.{kind}" for kind in ("json", "md", "tex", "csv")),
        "beside.csv",
    }
    assert r"| overall | K\_2 | 2.00 | 3.00 | 16 | 4 / 4 | +1.00 | – |" in (out / "table.md").read_text()
    assert r"overall & K\_2 & 2.00 & 3.00 & 16 & 4 / 4 & +1.00 & -- \\" in (out / "table.tex").read_text()
    lines = list(csv.DictReader((out / "beside.csv").open()))
    assert (lines[3]["method"], lines[3]["difference"], lines[3]["covered"]) == ("K_2", "1.0", "")
    lines = list(csv.DictReader((out / "table.csv").open()))
    assert [(one["scenario"], one["method"], one["n"]) for one in lines][2:] == [
        ("overall", "ours", "16"),
        ("overall", "K_2", "16"),
    ]
    assert "beside.csv" in capsys.readouterr().out
    given = ["--answers", str(clips / "study" / "answers"), "--tables", str(clips / "own")]
    main(["study", "analyse", str(clips / "study"), *given])
    assert "| overall | 4.00" in (clips / "own" / "table.md").read_text()


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("ab", {"n": 5}, "n must be the least and the most answers a question, [5, 5]; got 5"),
        ("ab", {"n": [6, 5]}, "n must be the least and the most"),
        ("ab", {"n": ["x", 5]}, "n must be a whole number from 1 to 100000; got 'x'"),
        ("ab", {"shares": {"a": {"voice": [50, "x", 40]}}}, "shares.a.voice must be a number; got 'x'"),
        ("ab", {"shares": {"a": {"voice": [50, 40]}}}, "shares.a.voice must be a list, such as [73, 7, 20]"),
        ("ab", {"shares": {"a": {"voice": [50, 10, 10]}}}, "shares.a.voice must be three percentages of together 100"),
        ("ab", {"shares": {"a": [1, 2]}}, "shares.a must be a mapping with names as keys"),
        ("ab", {"shares": {}}, "shares must be a mapping with names as keys"),
        ("ab", {"scores": {}}, "unknown key 'scores'"),
        ("ab", {"titel": "x"}, "unknown key 'titel'; known are"),
        ("ab", {"title": 5}, "title must be text; got 5"),
        ("ab", {"claimed_p": "x"}, "claimed_p must be a number; got 'x'"),
        ("ab", {"methods": {"kling": "b"}}, "methods.kling must be one of a; got 'b'"),
        ("ab", {"kind": ["ab"]}, "kind must be ab or mos; got ['ab']"),
        ("mos", {"n": {"overall": 5}}, "n says nothing about 'item1'; add it, or each"),
        ("mos", {"n": "x"}, "n must be a mapping"),
        ("mos", {"n": True}, "n must be a whole number"),
        ("mos", {"scores": {"item1": {"ours": 3.5}}}, "scores.item1.ours must be a list"),
        ("mos", {"scores": {"item1": {"ours": [3.5, 0]}}}, "scores.item1.ours: the mean must be from 1 to 5"),
    ],
)
def test_published_results_that_cannot_be_are_refused_with_key_and_value(tmp_path, kind, change, said):
    numbers = {
        "ab": {"n": [5, 5], "shares": {"a": {"voice": [50, 10, 40]}}},
        "mos": {"n": 5, "scores": {"item1": {"ours": [3.5, 0.3]}}},
    }
    path = published(tmp_path, kind, **numbers[kind])
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    with pytest.raises(SystemExit) as stopped:
        main(["study", "analyse", str(path)])
    assert said in str(stopped.value)
    assert str(path) in str(stopped.value)


def test_all_counts_that_round_to_published_shares_are_tested(capsys, tmp_path):
    path = published(tmp_path, "ab", n=[100, 100], shares={"a": {"v": [60, 0, 40], "ties": [0, 100, 0]}})
    main(["study", "analyse", str(path), "--output", str(tmp_path / "found.json")])
    first, ties = json.loads((tmp_path / "found.json").read_text())["published"]
    assert (first["p_least"], first["p_worst"]) == (pytest.approx(0.0569, abs=1e-4), pytest.approx(0.0569, abs=1e-4))
    assert (ties["p_least"], ties["p_worst"]) == (None, None)
    path = published(tmp_path, "ab", n=[999, 1000], shares={"a": {"v": [53, 0, 47]}})
    main(["study", "analyse", str(path), "--output", str(tmp_path / "found.json")])
    (row,) = json.loads((tmp_path / "found.json").read_text())["published"]
    tests = [binomtest(w, w + lost).pvalue for w, lost in ((534, 465), (535, 465), (525, 474), (525, 475))]
    assert row["p_least"] == pytest.approx(min(tests))
    assert row["p_worst"] == pytest.approx(max(tests))
    capsys.readouterr()
