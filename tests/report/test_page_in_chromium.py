"""The page in a real browser: sorting, filtering, playing, and nothing from outside its folder."""

import json
import shutil
import time
from itertools import pairwise

import pytest

from idlora_pl.report.build import build_table
from idlora_pl.report.page.folder import write_page
from idlora_pl.report.table import Column
from idlora_pl.report.write import write_report
from idlora_pl.results.row import ScoreRow

BETTER = {"spk_sim": "higher", "wer": "lower", "lip_offset": "near zero", "extra": ""}


def wait_for(condition, seconds=20.0):
    """Wait until the condition gives something true, and return it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "the page did not get there in time"
        time.sleep(0.05)
    return found


class Opened:
    """A page in the browser."""

    def __init__(self, browser, path):
        self.browser, self.path = browser, path
        browser.get_log("browser"), browser.get_log("performance")
        browser.get(path.as_uri())

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def one(self, selector):
        return self.browser.find_element("css selector", selector)

    def ask(self, script, *arguments):
        return self.browser.execute_script(f"return {script}", *arguments)

    def choose(self, name, value):
        from selenium.webdriver.support.ui import Select

        Select(self.one(f"#by-{name}")).select_by_visible_text(value)

    def press(self, key):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.browser).send_keys(key).perform()

    def listed(self):
        """Names of the clips in the list, as (item, row)."""
        cells = "[row.cells[0].textContent, row.cells[1].textContent]"
        return [tuple(one) for one in self.ask(f"[...document.querySelectorAll('#list tbody tr')].map(row => {cells})")]

    def items(self):
        """Names of the items, in the order in which they are shown."""
        return self.ask("[...document.querySelectorAll('.item h3')].map(one => one.textContent)")

    def requests(self):
        events = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        return [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]


@pytest.fixture(scope="module")
def moved(shelf, tmp_path_factory):
    """The page, moved to another place after it was written."""
    folder = write_page(shelf.table, shelf.scores, tmp_path_factory.mktemp("made") / "page").parent
    return shutil.move(folder, tmp_path_factory.mktemp("moved") / "a b#c") / "index.html"


@pytest.fixture
def page(chromium, moved):
    """The page, opened; at the end its console must hold no error and its requests no other folder."""
    opened = Opened(chromium, moved)
    yield opened
    assert [one for one in chromium.get_log("browser") if one["level"] == "SEVERE"] == []
    assert {url for url in opened.requests() if not url.startswith(moved.parent.as_uri() + "/")} == set()


def worst_first(scores, metric, *, reverse=False):
    """The order that the page should show, computed here; what has no value stands last."""
    turn = {"higher": 1, "": 1, "lower": -1, "near zero": -1}[BETTER[metric]] * (-1 if reverse else 1)

    def place(score):
        value = score.scores[metric]
        if value is None:
            return (1, 0.0)
        return (0, turn * (abs(value) if BETTER[metric] == "near zero" else value))

    return [(score.key, score.row) for score in sorted(scores, key=place)]


@pytest.mark.parametrize("number", range(4))
def test_each_score_sorts_the_clips_and_the_items_as_python_does(page, shelf, number):
    metric = list(BETTER)[number]
    assert page.listed() == [(score.key, score.row) for score in shelf.scores]
    heading = page.one(f"#list [data-by='{number}']")
    for reverse in (False, True):
        heading.click()
        expected = worst_first(shelf.scores, metric, reverse=reverse)
        assert page.listed() == expected
        assert page.items() == list(dict.fromkeys(key for key, _ in expected))
        assert ("best first" in heading.text or "highest first" in heading.text) == reverse
    assert page.listed()[-1] == ("no clip", "ours") or metric == "wer"


def test_sorting_by_a_difference_finds_where_a_row_falls_behind(page, shelf):
    page.choose("against", "ours")
    page.one("#list [data-by='1']").click()
    values = {(score.key, score.row): score.scores["wer"] for score in shelf.scores}
    behind = {}
    for (key, row), value in values.items():
        other = values[key, "ours"]
        if row != "ours":
            behind[key] = None if value is None or other is None else value - other
    expected = sorted(behind, key=lambda key: (behind[key] is None, -(behind[key] or 0)))
    assert [key for key, _ in page.listed()] == expected
    assert page.one("#list tbody tr").text.split()[-3] == "+0.25u"


def test_seeds_with_early_and_late_sound_do_not_cancel_on_the_page_either(chromium, tmp_path):
    lags = {"a": (-4.0, 8.0), "b": (3.0, -3.0)}
    scores = [
        ScoreRow("k", row, "ada", seed, {"lip_offset": lag})
        for row, pair in lags.items()
        for seed, lag in enumerate(pair)
    ]
    table = build_table(scores, ["a", "b"], [Column("lip_offset", "lip offset", "near zero", 1)], [("b", "a")])
    assert table.comparisons[0].difference.diff == -3.0
    page = Opened(chromium, write_page(table, scores, tmp_path / "page"))
    page.choose("against", "a")
    shown = [row.text for row in page.all("#list tbody tr")]
    assert [("-3.0" in text, "+" in text) for text in shown] == [(True, False)] * 2
    assert "lip offset" in page.one("#list thead").text
    assert "|lip offset|" in page.one("table").text


def test_filters_leave_what_they_name(page, shelf):
    page.choose("row", "<i>kling</i>")
    assert {row for _, row in page.listed()} == {"<i>kling</i>"}
    page.choose("speaker", "bob")
    assert page.items() == ["no clip", "other film"]
    page.choose("row", "all")
    page.choose("speaker", "all")
    page.choose("reason", "file_missing")
    assert page.listed() == [("no clip", "ours")]
    page.choose("reason", "any missing score")
    assert page.listed() == [(s.key, s.row) for s in shelf.scores if s.reasons]
    page.choose("reason", "all clips")
    page.one("#search").send_keys("OTHER f")
    assert page.items() == ["other film"]
    assert "2 of 8 clips, 1 of 4 items" in page.one("#said").text


@pytest.mark.slow
def test_every_clip_plays_and_shows_where_it_is(page):
    for key, n_players in {"plain": 4, "other film": 4}.items():
        card = next(one for one in page.all(".item") if one.find_element("tag name", "h3").text == key)
        page.browser.execute_script("arguments[0].scrollIntoView()", card)
        players = wait_for(lambda card=card: card.find_elements("css selector", "video, audio"))
        assert len(players) == n_players
        for player in players:
            wait_for(lambda player=player: player.get_property("readyState") >= 2)
            player.find_element("xpath", "..").find_element("css selector", ".bar button").click()
            wait_for(lambda player=player: player.get_property("currentTime") > 0.1)
            assert page.ask("arguments[0].error", player) is None
        assert any(line.is_displayed() for line in card.find_elements("css selector", ".sound i"))
        pictures = card.find_elements("css selector", ".sound img")
        wait_for(lambda pictures=pictures: all(one.get_property("naturalWidth") > 50 for one in pictures))
    assert any(url.endswith(".jpg") for url in page.requests())


def test_playing_together_keeps_time_and_one_is_heard(page):
    page.browser.execute_script("document.getElementById('item-0').scrollIntoView()")
    wait_for(lambda: len(page.all("#item-0 video")) == 3)
    state = "[...document.querySelectorAll('#item-0 video')].map(v => [v.currentTime, v.muted, v.paused])"
    page.browser.execute_script("document.querySelectorAll('#item-0 video').forEach(v => { v.loop = true; })")
    page.one("#item-0 .play").click()
    times, muted, _ = zip(
        *wait_for(lambda: (s := page.ask(state)) and min(one[0] for one in s) > 0.1 and s), strict=True
    )
    assert max(abs(a - b) for a, b in pairwise(times)) < 0.3
    assert muted == (True, False, True)  # target, ours, kling
    page.press("3")
    wait_for(lambda: [one[1] for one in page.ask(state)] == [True, True, False])
    assert page.one("#item-0 .heard").text.startswith("<i>kling</i>")
    page.press("p")
    wait_for(lambda: all(one[2] for one in page.ask(state)))
    assert page.one("#item-0 .play").text == "play together"


def test_texts_are_shown_and_do_not_act(page, shelf):
    assert page.ask("window.attacked === undefined && document.querySelectorAll('img[src=\"x\"]').length === 0")
    assert page.browser.title == shelf.table.caption
    assert page.items()[1] == shelf.scores[2].key
    card = page.one("#item-1")
    page.browser.execute_script("arguments[0].scrollIntoView()", card)
    wait_for(lambda: card.find_elements("css selector", ".matrix"))
    said = [one.text for one in card.find_elements("css selector", ".details")]
    assert said == ["", "", *[f"heard {shelf.scores[2].key}"] * 2]
    assert "– <u>silent</u>" in card.text
    assert card.find_element("css selector", ".words").text == f"“hello {shelf.scores[2].key}”"


def test_doubts_faults_and_curves_are_said(page, shelf):
    wait_for(lambda: page.all("#item-0 .matrix"))
    marks = page.all("#item-0 [data-score=lip_offset] sup")
    assert len(marks) == 2
    assert "anchor of lips had not passed" in marks[0].get_attribute("title")
    assert page.all("#item-0 [data-score=spk_sim] sup") == []
    assert len(page.all("#item-0 [data-curve=lip_offset] path")) == 2
    assert len(page.all("#item-0 [data-curve=lip_offset] circle")) == 6
    hollow = page.all("#item-0 [data-curve=lip_offset] circle.hollow")
    assert [one.find_element("css selector", "title").get_attribute("textContent")[-11:] for one in hollow] == [
        "may be none"
    ] * 2
    assert "not the file that was scored any more" in page.one("#item-0").text
    for number, text in ((2, "the file is not there"), (3, "encoded anew: mpeg1video and mp2")):
        page.browser.execute_script("document.getElementById(`item-${arguments[0]}`).scrollIntoView()", number)
        wait_for(lambda number=number, text=text: text in page.one(f"#item-{number}").text)
    assert not page.one("#item-3").find_elements("css selector", "[data-curve]")


def test_keys_go_through_the_items(page):
    for key, expected in (("j", "item-0"), ("j", "item-1"), ("j", "item-2"), ("k", "item-1")):
        page.press(key)
        assert page.ask("document.activeElement.id") == expected
    page.press("/")
    assert page.ask("document.activeElement.id") == "search"


def test_a_narrow_window_does_not_scroll_sideways(page):
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        wait_for(lambda: page.all(".matrix"))
        assert page.ask("document.documentElement.scrollWidth") <= 390
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.slow
def test_two_hundred_items_keep_few_players(chromium, shelf, tmp_path):
    clip = str(shelf.folder / "target.mp4")
    scores = [
        ScoreRow(f"item {k:03}", row, f"s{k % 20}", 0, {"m": (k * 37 % 200) / 200 + 0.1 * place}, notes={"clip": clip})
        for k in range(200)
        for place, row in enumerate("abcd")
    ]
    write_report(build_table(scores, list("abcd"), [Column("m", "m", "higher")]), scores, tmp_path)
    page = Opened(chromium, tmp_path / "index.html")
    assert len(page.listed()) == 200
    page.one("#more").click()
    assert len(page.listed()) == 800
    assert len(page.items()) == 200
    for target in ("item-100", "item-199", "item-0"):
        page.browser.execute_script("document.getElementById(arguments[0]).scrollIntoView()", target)
        wait_for(lambda target=target: page.all(f"#{target} video"))
        wait_for(lambda: len(page.all("video")) < 60)
    page.choose("row", "b")
    page.one("#list [data-by='0']").click()
    by_value = sorted((score for score in scores if score.row == "b"), key=lambda score: score.scores["m"])
    assert page.items() == [score.key for score in by_value]
    assert [one for one in chromium.get_log("browser") if one["level"] == "SEVERE"] == []
