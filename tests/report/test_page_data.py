"""What the page is given: every clip with its scores, reasons, doubts and curves, and no text that acts as HTML."""

import base64
import json
import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from idlora_pl.report.build import build_table
from idlora_pl.report.formats import to_markdown
from idlora_pl.report.page.document import Shown, doubts_about, linked, page_data, paths_of, to_html
from idlora_pl.report.table import Column
from idlora_pl.results.row import AT_EDGE, BY_CHANCE, Curve, ScorerFacts, ScoreRow


def data_of(shelf, **shown_as):
    """The data of the fixture's page, its clips played from where they are."""
    return page_data(shelf.table, shelf.scores, linked(paths_of(shelf.scores), shelf.folder), **shown_as)


def test_every_clip_is_there_with_its_values_in_the_order_of_the_columns(shelf):
    data = data_of(shelf)
    assert [column["name"] for column in data["columns"]] == ["spk_sim", "wer", "lip_offset", "extra"]
    assert data["rows"] == ["ours", "<i>kling</i>", "absent"]
    clips = {(item["key"], data["rows"][clip["row"]]): clip for item in data["items"] for clip in item["clips"]}
    assert clips.keys() == {(score.key, score.row) for score in shelf.scores}
    for score in shelf.scores:
        clip = clips[score.key, score.row]
        assert dict(zip(("spk_sim", "wer", "lip_offset", "extra"), clip["values"], strict=True)) == score.scores
        assert clip["reasons"] == score.reasons


def test_scores_beside_the_table_have_the_direction_that_is_known_of_them(shelf):
    assert data_of(shelf)["columns"][3] == {"name": "extra", "heading": "extra", "better": "", "digits": 3}
    known = {"extra": Column("extra", "Extra", "lower", 1)}
    found = data_of(shelf, known=known)["columns"][3]
    assert found == {"name": "extra", "heading": "Extra ↓", "better": "lower", "digits": 1}


def test_a_value_of_an_unproven_scorer_says_why_it_is_doubtful(shelf):
    data = data_of(shelf)
    clip = data["items"][0]["clips"][0]
    doubts = {name: data["doubts"][place]["text"] for name, (place,) in clip["doubts"].items()}
    assert {one["mark"] for one in data["doubts"]} == {"u"}
    assert doubts.keys() == {"lip_offset", "wer", "extra"}
    assert "anchor of lips had not passed" in doubts["lip_offset"]
    assert "cdcdcdcdcdcd" in doubts["lip_offset"]
    assert "does not say what made" in doubts["wer"]
    assert doubts_about(shelf.scores[0], "spk_sim") == []


def test_a_lag_that_may_be_none_has_a_mark_of_its_own_in_values_and_curves():
    why = f"{AT_EDGE}, {BY_CHANCE} (0.34 in 3.0 s)"
    curve = Curve(0.0, 0.2, (10.0, 1.0), (0,))
    lips = ScorerFacts(("lag",), "none", verified=True, details={"lag_doubt": why}, curves={"lag": curve})
    scores = [ScoreRow("k", "ours", "s", 0, {"lag": 10.0}, scorers={"lips": lips})]
    table = build_table(scores, ["ours"], [Column("lag", "lag", "near zero", 1)])
    data = page_data(table, scores, {})
    (clip,) = data["items"][0]["clips"]
    assert data["doubts"] == [{"mark": "?", "text": why}]
    assert (clip["doubts"], clip["curves"]["lag"]) == ({"lag": [0]}, [0.0, 0.2, [10.0, 1.0], [0]])
    assert "Lags with a raised ? (1 of 1 clips have some), and hollow points of curves" in to_html(table, scores, {})
    said = to_markdown(table)
    assert f"lag: values {AT_EDGE} may be no lags; they are marked (ours 1 of 1)." in said
    assert f"lag: values {BY_CHANCE} may be no lags; they are marked (ours 1 of 1)." in said
    assert [one for one in table.to_dict()["remarks"] if "may be no lags" in one] == list(table.remarks)[:2]


def test_curves_share_one_range_that_holds_zero_when_zero_is_best(shelf):
    (curve,) = data_of(shelf)["curves"]
    assert curve == {"name": "lip_offset", "title": "lip offset", "low": -2.0, "high": 4.0}
    assert data_of(shelf)["items"][0]["clips"][0]["curves"]["lip_offset"] == [0.0, 0.2, [0.0, None, 3.0, -2.0], [2]]


def test_a_row_that_is_the_target_stands_for_it():
    notes = {"clip": "a/real.mp4", "target": "a/real.mp4"}
    scores = [ScoreRow("k", "real", "s", None, {"m": 1.0}, notes=notes)]
    scores.append(ScoreRow("k", "ours", "s", 0, {"m": 0.5}, notes={"clip": "a/ours.mp4", "target": "a/real.mp4"}))
    table = build_table(scores, ["ours", "real"], [Column("m", "m", "higher")])
    (item,) = page_data(table, scores, linked(paths_of(scores), Path("a")))["items"]
    assert item["target"] is None
    assert [(clip["row"], clip["is_target"]) for clip in item["clips"]] == [(0, False), (1, True)]


def test_a_clip_that_changed_after_scoring_is_marked(shelf):
    shown = linked(paths_of(shelf.scores), shelf.folder)
    digests = {path: sha256(Path(path).read_bytes()).hexdigest() for path in shown if Path(path).is_file()}
    shown = {path: replace(one, digest=digests.get(path, "")) for path, one in shown.items()}
    data = page_data(shelf.table, shelf.scores, shown)
    changed = [
        (item["key"], data["rows"][clip["row"]]) for item in data["items"] for clip in item["clips"] if clip["changed"]
    ]
    assert changed == [("plain", "<i>kling</i>")]
    assert "1 of 8 clips are not the files that were scored any more" in to_html(shelf.table, shelf.scores, shown)


def test_seeds_of_one_item_are_clips_of_their_own():
    scores = [
        ScoreRow("k", row, "s", seed, {"m": seed / 10}, notes={"clip": f"{row}{seed}.mp4"})
        for seed in (7, 3)
        for row in ("b", "a")
    ]
    table = build_table(scores, ["a", "b"], [Column("m", "m", "higher")])
    (item,) = page_data(table, scores, linked(paths_of(scores), Path("a")))["items"]
    assert [(clip["row"], clip["seed"]) for clip in item["clips"]] == [(0, 3), (0, 7), (1, 3), (1, 7)]


def test_no_text_ends_the_script_that_holds_the_data_or_becomes_a_tag(shelf):
    page = to_html(shelf.table, shelf.scores, linked(paths_of(shelf.scores), shelf.folder), beside=["a&b.csv"])
    assert page.count("</script>") == 2
    assert not re.search(r"<(b|img src=x|i|u|paper)>", page)
    assert "&lt;i&gt;kling&lt;/i&gt;" in page
    assert 'href="a%26b.csv"' in page
    held = page.split('type="application/json">')[1].split("</script>")[0]
    assert json.loads(held)["items"][1]["key"] == shelf.scores[2].key


def test_placeholders_in_texts_are_left_alone(shelf):
    table = replace(shelf.table, caption="__DATA__ __SCRIPT__")
    page = to_html(table, [], {})
    assert "<title>__DATA__ __SCRIPT__</title>" in page


def test_the_policy_allows_this_script_and_no_other(shelf):
    page = to_html(shelf.table, shelf.scores, {})
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    for tag in ("script", "style"):
        body = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        (body,) = body
        digest = base64.b64encode(sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "http" not in policy.replace("http-equiv", "")


def test_a_page_without_scores_is_the_table_alone(shelf):
    table = build_table([], list(shelf.table.rows), shelf.table.columns)
    page = to_html(table, [], {})
    assert "absent: not measured; run `idlora score`" in page
    assert '"items": []' in page


def test_files_that_browsers_only_hear_are_told_apart():
    shown = linked(["x/a b.MP3", "x/c.mp4"], Path("a"))
    assert shown["x/a b.MP3"] == Shown("a b.MP3", "../x/a%20b.MP3", "audio")
    assert shown["x/c.mp4"].kind == "video"
