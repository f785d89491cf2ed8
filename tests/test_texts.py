"""Texts are UTF-8, with or without a mark; lines of JSON Lines end at a line feed; both hold for every reader."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.captions.files import read_texts
from data_tools.find_speakers import labels_of
from data_tools.pair_clips import pair_clips
from data_tools.pairing.consents import read_consents
from data_tools.pairing.pairing import read_prompts as read_pair_prompts
from data_tools.prepare import main as prepare
from data_tools.verb.command import run as run_tool
from data_tools.verb.lists import read_rows, write_rows
from idlora_pl.benchmark.items import Item, read_prompts
from idlora_pl.benchmark.manifest import write_manifest
from idlora_pl.cli.lightning import run
from idlora_pl.evaluation.disjoint import compare_speakers
from idlora_pl.files import TextError, json_line, read_json, read_json_lines, read_lines, read_text, write_json_lines
from idlora_pl.report.yaml_checks import load_yaml
from idlora_pl.results.scores_file import read_scores
from idlora_pl.study.design import read_json as read_study

PROMPT = "[VISUAL]: A person. [SPEECH]: Grüß Gott, Zoë. [SOUNDS]: A room."
SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r"
ENCODINGS = {"utf-16": "UTF-16", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "utf-32": "UTF-32", "cp1252": ""}


READERS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "prompts of predict": (
        "p.json",
        json.dumps([{"prompt": PROMPT, "speaker": "Zoë"}], ensure_ascii=False),
        lambda path: read_prompts(path)[0].prompt,
    ),
    "prompts of pair_clips": ("p.json", json.dumps({"a": PROMPT}, ensure_ascii=False), read_pair_prompts),
    "texts": (
        "p.json",
        json.dumps({"a": PROMPT}, ensure_ascii=False),
        lambda path: read_texts(path, [{"key": "a"}])["a"]["speech"],
    ),
    "list of texts": (
        "p.jsonl",
        json.dumps({"key": "a", "prompt": PROMPT}, ensure_ascii=False) + "\n",
        lambda path: read_texts(path, [{"key": "a"}])["a"]["speech"],
    ),
    "a text of a folder": ("a.txt", PROMPT, lambda path: read_texts(path.parent, [{"key": "a"}])["a"]["speech"]),
    "subtitles": (
        "a.srt",
        "1\n00:00:00,000 --> 00:00:01,000\nGrüß Gott, Zoë.\n",
        lambda path: read_texts(path.parent, [{"key": "a"}])["a"]["speech"],
    ),
    "consents": ("c.json", '{"Zoë": "signed"}', lambda path: read_consents(str(path))),
    "labels": ("l.json", '{"a": "Zoë"}', lambda path: labels_of([{"key": "a"}], str(path))),
    "a list of clips": ("c.jsonl", '{"key": "a", "speaker": "Zoë"}\n', lambda path: read_rows(path, ("key",))),
    "a training list": (
        "c.jsonl",
        '{"key": "a", "speaker": "Zoë"}\n',
        lambda path: compare_speakers([Item("x", speaker="Zoë")], path).leaked,
    ),
    "captions of a manifest": (
        "captions.json",
        '[{"id": "a", "speaker": "Zoë"}]',
        lambda path: write_manifest(path.parent, path.parent / "out" / "m.json")[0].speaker,
    ),
    "scores": (
        "scores.jsonl",
        '{"key": "a", "row": "r", "speaker": "Zoë", "wer": 0.5}\n',
        lambda path: read_scores(path)[0].speaker,
    ),
    "a yaml": ("t.yaml", "title: Zoë\n", lambda path: load_yaml(path, "a yaml")),
    "the key of a study": ("key.json", '{"study": "Zoë"}', lambda path: read_study(path, "restore it")),
}


@pytest.fixture(params=READERS)
def reader(request, tmp_path):
    name, text, read = READERS[request.param]
    (tmp_path / "out").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "reference.wav").write_bytes(b"x")
    return tmp_path / name, text, read


def test_a_mark_makes_no_difference(reader):
    path, text, read = reader
    path.write_text(text, encoding="utf-8", newline="")
    plain = read(path)
    for marked in (text, text.replace("\n", "\r\n")):
        path.write_text(marked, encoding="utf-8-sig", newline="")
        assert read(path) == plain
    assert "Zo" in str(plain)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_another_encoding_is_refused_with_the_name_of_the_file_and_of_the_encoding(reader, encoding):
    path, text, read = reader
    path.write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=rf"{path.name} is not UTF-8 text.*{ENCODINGS[encoding]}.*; save it as UTF-8"):
        read(path)


@pytest.mark.parametrize(
    ("encoding", "text", "names"),
    [
        ("cp1252", "“Grüße”, sagte Zoë – und ging. Das wäre schön, über Nacht zu fahren.", {"cp1252"}),
        ("latin-1", "ä", {"cp1252"}),
        ("latin-1", '{"Zoë": "signed"}', {"cp1252"}),
        ("cp1251", '{"Зоя": "человек говорит"}', {"cp1251"}),
        ("cp949", '{"a": "한국어 사람이 말합니다"}', {"cp949"}),
        ("shift_jis", "こんにちは、元気ですか。今日はいい天気ですね。" * 3, {"shift-jis", "cp932"}),
        ("gb18030", "你好，今天天气很好，我们一起去公园散步吧。" * 3, {"gb18030", "gbk", "gb2312"}),
        ("koi8_r", "Здравствуйте, сегодня очень хорошая погода, пойдём гулять." * 3, {"koi8-r", "koi8-u"}),
    ],
)
def test_the_encoding_that_a_text_looks_like_is_named(tmp_path, encoding, text, names):
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    with pytest.raises(TextError) as caught:
        read_text(tmp_path / "a.txt")
    assert any(f"it looks like {name};" in str(caught.value) for name in names), caught.value


@given(text=st.text(st.one_of(st.sampled_from(SEPARATORS + "\n"), st.characters(codec="utf-8"))))
def test_what_one_tool_writes_another_reads(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("lists") / "rows.jsonl"
    rows = [{"key": "a", "text": text}, {"key": text, "more": [text]}]
    write_rows(path, rows)
    assert read_rows(path, ("key",)) == rows
    assert [row for _, row in read_json_lines(path)] == rows
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_separator_in_a_prompt_goes_through_every_list(separator, tmp_path):
    prompt = PROMPT.replace("person", f"per{separator}son")
    rows = [{"key": "a", "prompt": prompt, "speaker": "s"}, {"key": "b", "prompt": prompt, "speaker": "t"}]
    (tmp_path / "raw.jsonl").write_bytes("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    # a bare carriage return inside a JSON text is an escape, as JSON wants it
    assert read_rows(tmp_path / "raw.jsonl", ("key",)) == rows
    assert compare_speakers([Item("x", speaker="t")], tmp_path / "raw.jsonl").leaked == ("t",)
    assert sorted(read_texts(tmp_path / "raw.jsonl", rows)) == ["a", "b"]


def test_half_a_surrogate_pair_is_written_and_read(tmp_path):
    # such as os.fsdecode makes of a file name that is no UTF-8
    rows = [{"path": "caf\udce9.mp4"}, {"path": "café.mp4"}]
    write_json_lines(tmp_path / "rows.jsonl", rows)
    assert [row for _, row in read_json_lines(tmp_path / "rows.jsonl")] == rows
    assert "café" in (tmp_path / "rows.jsonl").read_text(encoding="utf-8")
    assert json_line(rows[0]).isascii()


def test_lines_end_at_line_feeds_alone(tmp_path):
    (tmp_path / "a.txt").write_bytes("one\u2028still\r\ntwo\x0b\n\nlast".encode())
    assert read_lines(tmp_path / "a.txt") == ["one\u2028still", "two\x0b", "", "last"]
    (tmp_path / "a.txt").write_bytes(b"")
    assert read_lines(tmp_path / "a.txt") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"a.json is not JSON \(.*\); correct it"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', r"a.json is not JSON \(the key 'c' is there twice\); correct it"),
        ("[" * 100_000, r"a.json is not JSON that can be read \(nested too deeply\); correct it"),
    ],
)
def test_what_is_no_json_is_refused(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("line", "message"),
    [("[1]", "a.jsonl, line 3 is no JSON object"), ('{"a"', r"a.jsonl, line 3 is not JSON \(.*\); correct it")],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_text(f'{{"key": 1}}\n\n{line}\n')
    with pytest.raises(ValueError, match=message):
        list(read_json_lines(tmp_path / "a.jsonl"))


def test_texts_do_not_depend_on_the_locale(tmp_path):
    write_rows(tmp_path / "rows.jsonl", [{"key": "Zoë"}])
    code = (
        "import sys; from pathlib import Path; from data_tools.verb.lists import read_rows, write_rows; "
        "rows = read_rows(Path(sys.argv[1]), ()); write_rows(Path(sys.argv[2]), rows)"
    )
    files = [str(tmp_path / "rows.jsonl"), str(tmp_path / "again.jsonl")]
    settings = {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    subprocess.run([sys.executable, "-c", code, *files], env=settings, check=True)
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "rows.jsonl").read_bytes()


CONFIGS = {
    "fit": "data:\n  shards: nowhere-Zoë\n",
    "prepare": "cut_clips: {centre_crop: true, any_sound: true, consents: nowhere-Zoë}\n",
    "pair_clips": "prompts: nowhere-Zoë\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("command", CONFIGS)
def test_a_configuration_is_read_like_every_text(command, encoding, tmp_path, capsys, monkeypatch):
    path = tmp_path / "own.yaml"
    path.write_bytes(f"# Zoë\n{CONFIGS[command]}".encode(encoding))
    (tmp_path / "raw").mkdir()
    monkeypatch.setattr(sys, "argv", ["idlora"])
    commands = {
        "fit": lambda: run(["fit", "-c", str(path), "--model.base", "smoke", "--run", str(tmp_path / "run")]),
        "prepare": lambda: prepare([str(tmp_path / "raw"), "--output", str(tmp_path / "out"), "--config", str(path)]),
        "pair_clips": lambda: run_tool(pair_clips, ["--config", str(path), "clips.jsonl", "pairs.jsonl"]),
    }
    with pytest.raises(SystemExit) as stopped:
        commands[command]()
    said = f"{stopped.value} {capsys.readouterr().err}"
    expected = "nowhere-Zoë" if encoding.startswith("utf-8") else "own.yaml is not UTF-8 text, it looks like"
    assert expected in said, said
