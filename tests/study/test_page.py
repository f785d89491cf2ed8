"""A rater goes through the page in a real browser; what the page saves can be analysed."""

import json
import time

import pytest
import torch

from idlora_pl.cli import main
from idlora_pl.media.clip import Clip
from idlora_pl.media.writing import write_clip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of two methods and two items with real clips of half a second, and voices as references."""
    folder = tmp_path_factory.mktemp("study")
    for number, name in enumerate(("ours", "kling", "voices")):
        for item in ("rain</script>", "wind"):
            time_s = torch.arange(8000) / 16000
            sound = 0.2 * torch.sin(2 * torch.pi * 220 * (number + 1) * time_s).expand(2, -1)
            frames = torch.full((13, 3, 64, 64), 80 * number, dtype=torch.uint8)
            write_clip(Clip(frames, sound, 25.0, 16000), folder / name / f"{item.replace('/', '')}.mp4")
    prompts = [{"prompt": f"[VISUAL]: x [SPEECH]: <b>{i}</b> [SOUNDS]: y", "output_name": i} for i in ("wind",)]
    (folder / "prompts.json").write_text(json.dumps(prompts))
    methods = [word for name in ("ours", "kling") for word in ("--method", f"{name}={folder / name}")]
    shown = ["--reference", str(folder / "voices"), "--prompts", str(folder / "prompts.json")]
    main(["study", "make", str(folder / "made"), "--kind", "ab", *methods, *shown, "--raters", "2"])
    return folder / "made"


def wait_for(condition, seconds=10.0):
    """Wait until the condition gives something true, and return it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "the page did not get there in time"
        time.sleep(0.05)
    return found


@pytest.mark.slow
def test_a_rater_answers_every_screen_and_the_answers_can_be_analysed(chromium, study, tmp_path, capsys):
    from selenium.webdriver.common.by import By

    key = json.loads((study / "key.json").read_text())
    chromium.get((study / "page" / "index.html").as_uri() + "?rater=r02")
    chromium.execute_script("localStorage.clear()")
    chromium.find_element(By.ID, "start").click()
    screens = 0
    while chromium.find_elements(By.ID, "next"):
        videos = chromium.find_elements(By.TAG_NAME, "video")
        wait_for(lambda videos=videos: all(v.get_property("readyState") >= 2 for v in videos))
        chromium.execute_async_script("arguments[0].play().then(arguments[1])", videos[-1])
        wait_for(lambda videos=videos: videos[-1].get_property("currentTime") > 0)
        ask = chromium.find_elements(By.CSS_SELECTOR, ".ask:not([hidden])")
        side = "left" if ask and "left" in ask[0].text else "right"
        for choice in chromium.find_elements(By.CSS_SELECTOR, f"input[value={side}]"):
            choice.click()
        if screens == 1:  # a reload in the middle loses nothing
            chromium.find_element(By.ID, "next").click()
            chromium.refresh()
            chromium.find_element(By.ID, "start").click()
            assert chromium.find_element(By.TAG_NAME, "p").text.startswith("Screen 3 of 4")
        else:
            chromium.find_element(By.ID, "next").click()
        screens += 1
    assert screens == len(key["trials"]) + 2
    saved = chromium.find_element(By.ID, "save").get_attribute("href")
    text = chromium.execute_async_script("fetch(arguments[0]).then((r) => r.text()).then(arguments[1])", saved)
    (tmp_path / "answers-r02.json").write_text(text)
    main(["study", "analyse", str(study), "--answers", str(tmp_path), "--output", str(tmp_path / "found.json")])
    rows = json.loads((tmp_path / "found.json").read_text())["preferences"]
    rights = [key["sides"]["r02"][trial][1] for trial in key["trials"]]
    assert rows[0]["found"]["wins"] == rights.count("ours")
    assert "1 raters of 2 count; 0 of their answers are missing." in capsys.readouterr().out
    assert [one for one in chromium.get_log("browser") if one["level"] == "SEVERE"] == []


def test_a_wrong_code_is_told_so(chromium, study):
    from selenium.webdriver.common.by import By

    chromium.get((study / "page" / "index.html").as_uri() + "?rater=bob")
    chromium.find_element(By.ID, "start").click()
    assert chromium.find_element(By.CSS_SELECTOR, ".ask").text == "The code must be one of r01, r02."
