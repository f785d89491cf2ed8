"""The folder of a page: all that it plays lies in it, whole or not at all, and nothing of others is lost."""

import json
import re
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch

from idlora_pl.cli.table import known_columns
from idlora_pl.cli.tools import call_tool
from idlora_pl.media.clip import Clip
from idlora_pl.media.reading import codecs_of, read_clip, read_metadata
from idlora_pl.media.writing import AI_GENERATED_LABEL, write_audio, write_clip
from idlora_pl.report.page.clips import copied
from idlora_pl.report.page.folder import write_page


@pytest.fixture(scope="module")
def page(shelf, tmp_path_factory):
    """The page of the fixture's table."""
    return write_page(shelf.table, shelf.scores, tmp_path_factory.mktemp("page") / "out").parent


def files_of(folder):
    held = (folder / "index.html").read_text().split('type="application/json">')[1].split("</script>")[0]
    return {one["name"]: one for one in json.loads(held)["files"]}


def test_the_folder_holds_the_table_and_each_clip_once(page, shelf):
    names = {path.name for path in page.iterdir()}
    tables = {"table.json", "table.md", "table.tex", "table.csv", "paired.csv", "figure.png"}
    assert names == tables | {"index.html", "clips", "pictures"}
    files = files_of(page)
    assert len(list((page / "clips").iterdir())) == 9  # 7 clips, the voice, the target
    for name, one in files.items():
        for part in ("src", "poster", "sound"):
            assert not one[part] or (page / unquote(one[part])).is_file(), (name, part)
    assert [path.name for path in page.parent.iterdir()] == ["out"]


def test_copies_are_named_by_their_content_and_equal_to_the_originals(page, shelf):
    for name, one in files_of(page).items():
        original = shelf.folder / name
        if not original.is_file() or original.suffix == ".mpg":
            continue
        digest = sha256(original.read_bytes()).hexdigest()
        assert one["digest"] == digest
        assert one["src"] == f"clips/{digest[:16]}{original.suffix}"
        assert (page / one["src"]).read_bytes() == original.read_bytes()
        assert one["said"] == ""


def test_what_browsers_do_not_play_is_encoded_anew_and_says_so(page, shelf):
    one = files_of(page)["3 #1.mpg"]
    assert one["said"] == "encoded anew: mpeg1video and mp2 to h264 and aac, 96 x 64"
    codecs = codecs_of(page / one["src"])
    assert (codecs.picture, codecs.pixels, codecs.sound) == ("h264", "yuv420p", "aac")
    made, original = read_clip(page / one["src"]), read_clip(shelf.folder / "3 #1.mpg")
    assert made.frames.shape == original.frames.shape
    assert (made.frames.float() - original.frames.float()).abs().mean() < 4
    assert made.duration_s == pytest.approx(original.duration_s)
    assert AI_GENERATED_LABEL not in read_metadata(page / one["src"]).get("comment", "")


def test_a_clip_that_is_missing_says_so_and_the_rest_is_shown(page):
    files = files_of(page)
    assert (files["2 #0.mp4"]["src"], files["2 #0.mp4"]["said"]) == ("", "the file is not there")
    assert sum(bool(one["src"]) for one in files.values()) == 9


def test_stills_and_sounds_are_drawn(page):
    files = files_of(page)
    assert files["target.mp4"]["poster"]
    assert files["target.mp4"]["sound_s"] == pytest.approx(0.8, abs=0.1)
    assert (files["voice.wav"]["kind"], files["voice.wav"]["poster"]) == ("audio", "")
    assert files["voice.wav"]["sound_s"] == 0.8
    assert files["3 #1.mpg"]["wide"] == 1.5


def test_no_path_of_this_machine_stands_in_the_page(page, shelf):
    assert str(shelf.folder) not in (page / "index.html").read_text()
    assert not re.search(r'(src|href)="(/|file:|http)', (page / "index.html").read_text())


def test_a_page_is_replaced_and_a_foreign_folder_is_not(shelf, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    table = replace(shelf.table, caption="first")
    write_page(table, [], out)
    write_page(replace(table, caption="second"), [], out)
    assert "<title>second</title>" in (out / "index.html").read_text()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"out holds notes.txt beside an earlier page; move it away"):
        write_page(table, [], out)
    (out / "notes.txt").unlink()
    (out / "index.html").write_text("my own page")
    with pytest.raises(ValueError, match=r"out already holds something else; give --html a new folder"):
        write_page(table, [], out)
    assert (out / "index.html").read_text() == "my own page"
    with pytest.raises(ValueError, match="already holds something else"):
        write_page(table, [], out / "index.html")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_page_that_fails_leaves_the_earlier_one(shelf, tmp_path, monkeypatch):
    write_page(replace(shelf.table, caption="first"), [], tmp_path / "out")

    def full(*_args, **_kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        write_page(shelf.table, shelf.scores, tmp_path / "out")
    assert "<title>first</title>" in (tmp_path / "out" / "index.html").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_broken_and_odd_files_are_told_apart(shelf, tmp_path):
    (tmp_path / "text.mp4").write_text("not a film")
    (tmp_path / "empty.mp4").touch()
    whole = (shelf.folder / "target.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "folder.mp4").mkdir()
    write_audio(torch.zeros(1, 8), tmp_path / "short.wav", 16000)
    one_frame = Clip(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.zeros(1, 640), 25.0, 16000)
    write_clip(one_frame, tmp_path / "one.mp4")
    shutil.copyfile(shelf.folder / "target.mp4", tmp_path / "same.mp4")
    paths = [str(path) for path in sorted(tmp_path.iterdir())] + [str(shelf.folder / "target.mp4")]
    shown = dict(copied(paths, tmp_path / "page"))
    by_name = {Path(path).name: one for path, one in shown.items()}
    assert set(shown) == set(paths)
    assert {name for name, one in by_name.items() if not one.src} >= {"text.mp4", "empty.mp4", "folder.mp4"}
    assert "cannot be decoded" in by_name["text.mp4"].said
    assert str(tmp_path) not in by_name["text.mp4"].said
    assert by_name["one.mp4"].src.endswith(".mp4")
    assert by_name["short.wav"].src.endswith(".wav")
    assert by_name["same.mp4"].src == by_name["target.mp4"].src


def test_the_command_writes_the_page_and_refuses_it_for_studies(shelf, tmp_path, capsys):
    from idlora_pl.results.scores_file import append_scores

    append_scores(tmp_path / "scores.jsonl", shelf.scores)
    call_tool("table", [str(tmp_path / "scores.jsonl"), "--html", str(tmp_path / "page")])
    assert "page/index.html" in capsys.readouterr().out.replace("\n", "")
    assert files_of(tmp_path / "page")["target.mp4"]["src"].startswith("clips/")
    study = Path(__file__).parents[2] / "experiments/tables/human_ab.yaml"
    with pytest.raises(ValueError, match="is a study without clips"):
        call_tool("table", [str(study), "--html", str(tmp_path / "study")])


def test_every_score_of_every_scorer_has_a_column_by_name():
    columns = known_columns()
    assert columns["spk_sim_dvector"].better == "higher"
    assert columns["phoneme_error_rate"].better == "lower"
    assert all(name == column.metric for name, column in columns.items())
